import math

import numpy as np
import pytest

from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.robustness import (
    ALEXNET,
    ALEXNET_CLEAN,
    PerturbedFigures,
    ScoredImages,
    to_kind,
    to_perturbed_figures,
    to_robustness,
)

LABELS = np.array([0, 0, 0, 0, 1, 1])
PLAIN = ScoredImages(np.arange(6.0), np.array([0.1, 0.2, 0.3, 0.4, 0.8, 0.9]), np.zeros(6))
PERTURBED = ScoredImages(
    np.array([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]),
    np.array([0.1, 0.6, 0.3, 0.4, 0.45, 0.9]),
    np.array([0.2, 1.0, 1.1, 3.0, 0.9, 0.0]),
)


def build_figures(error):
    return PerturbedFigures(0.9, 0.8, 0.7, 0.6, error, 1.0, 0.1, 0.2)


def test_figures_of_perturbed_images_worked_by_hand():
    figures = to_perturbed_figures(LABELS, PERTURBED, PLAIN, threshold=0.5)
    assert figures.auc == pytest.approx(7 / 8)
    assert figures.accuracy == pytest.approx(4 / 6)
    assert (figures.sensitivity, figures.specificity) == (0.5, 0.75)
    assert figures.balanced_error == pytest.approx(1 - (0.5 + 0.75) / 2)
    assert figures.mean_shift == pytest.approx(9 / 6)
    assert figures.changed == pytest.approx(2 / 6)
    assert figures.out_of_distribution == pytest.approx(2 / 6)


def test_images_as_they_are_have_changed_nothing():
    figures = to_perturbed_figures(LABELS, PLAIN, PLAIN, threshold=0.5)
    assert (figures.balanced_error, figures.mean_shift, figures.changed) == (0, 0, 0)


def test_a_stated_prevalence_weighs_the_accuracy_and_changes_no_prediction():
    shift = PrevalenceShift(0.5, 0.1)
    figures = to_perturbed_figures(LABELS, PERTURBED, PLAIN, threshold=0.5, shift=shift)
    assert figures.accuracy == pytest.approx(0.1 * 0.5 + 0.9 * 0.75)
    assert (figures.sensitivity, figures.changed) == (0.5, pytest.approx(2 / 6))


def test_images_of_one_class_have_what_is_defined():
    figures = to_perturbed_figures(np.ones(6, np.int64), PERTURBED, PLAIN, threshold=0.5)
    assert figures.sensitivity == figures.accuracy == pytest.approx(2 / 6)
    assert all(math.isnan(one) for one in (figures.auc, figures.specificity, figures.balanced_error))
    assert math.isnan(to_kind("shot_noise", [1.0], [figures]).relative_error)


def test_errors_relative_to_alexnet_worked_by_hand():
    """Its errors of medmnistc 0.1.0 are means over the severities already."""
    assert (len(ALEXNET), ALEXNET["contrast_up"]) == (13, 0.09529914529914527)
    assert np.mean(list(ALEXNET.values())) == pytest.approx(0.265, abs=5e-4)
    errors = [0.1, 0.2, 0.3, 0.4, 0.5]
    kind = to_kind("contrast_up", [1.0, 2.0, 3.0, 4.0, 5.0], [build_figures(error) for error in errors])
    assert kind.mean.balanced_error == pytest.approx(0.3)
    assert kind.relative_error == pytest.approx(0.3 / 0.09529914529914527)
    half = to_kind("gamma_corr_up", [1.0], [build_figures(ALEXNET["gamma_corr_up"] / 2)])
    ours = to_kind("rotation", [3.0], [build_figures(0.4)])
    assert ours.relative_error is None
    kinds = {"contrast_up": kind, "gamma_corr_up": half, "rotation": ours}
    benchmark = to_robustness(build_figures(2 * ALEXNET_CLEAN), kinds, seed=1).medmnist_c
    assert benchmark.mean_relative_error == pytest.approx((0.3 / 0.09529914529914527 + 0.5) / 2)
    assert benchmark.clean_relative_error == pytest.approx(2)
    assert benchmark.alexnet == {"clean": ALEXNET_CLEAN, **ALEXNET}
