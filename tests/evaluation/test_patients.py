import math

import numpy as np
import pytest
from scipy.special import expit, ndtri, stdtrit

from pneumo_keras.evaluation.comparison import compare_figures
from pneumo_keras.evaluation.intervals import (
    estimate_errors,
    to_effective_size,
    to_intervals,
    to_placement_error,
    to_placements,
    to_share_interval,
)
from pneumo_keras.evaluation.metrics import to_resampled_figures
from pneumo_keras.evaluation.patients import PatientCounts, count_patients, count_rarer, to_groups
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import evaluate_at

LIKENESS = 0.6  # correlation of two images of a patient, within a class
A_PATIENT = 3


def draw_patients(seed, *, normal=10, ill=23, auc=0.95, rivals=1):
    """Labels, patients, and scores of classifiers of one AUC, of three images a patient."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(normal + ill), A_PATIENT)
    labels = (patients >= normal).astype(np.int64)

    def draw_noise():
        own, shared = rng.normal(size=len(patients)), rng.normal(size=normal + ill)[patients]
        return LIKENESS**0.5 * shared + (1 - LIKENESS) ** 0.5 * own

    distance, common = 2**0.5 * ndtri(auc), draw_noise()
    noises = [0.8**0.5 * common + 0.2**0.5 * draw_noise() for _ in range(rivals)]
    return labels, patients, [expit(distance * (noise + distance * (labels - 0.5))) for noise in noises]


def to_values(labels, scores):
    """Every figure, faster than by scikit-learn."""
    figures = to_resampled_figures(labels, scores, scores > 0.5, np.ones((1, len(labels))))
    return {name: float(value[0]) for name, value in figures.items()}


def test_patients_are_numbered_in_the_order_of_their_images():
    assert to_groups(("b", "a", "b", "", "")).tolist() == [0, 1, 0, 2, 3]


@pytest.mark.parametrize("patients", [None, (), ("", ""), ("a", "b", "")])
def test_where_no_patient_has_two_images_patients_do_not_matter(patients):
    assert to_groups(patients) is None


def test_patients_are_counted_by_the_class_of_their_images():
    labels, patients = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 2, 2])
    assert count_patients(labels, patients) == PatientCounts(3, 2, 2)
    assert count_rarer(labels, patients) == 1  # one without pneumonia, two with
    assert count_rarer(labels, None) == 2
    assert count_rarer(np.array([1, 1, 1]), np.array([0, 0, 1])) == 2


@pytest.mark.parametrize("shift", [None, PrevalenceShift(0.5, 0.2)])
def test_patients_change_intervals_and_no_figure(shift):
    labels, patients, (scores,) = draw_patients(1)
    options = {"threshold": 0.4, "resamples": 100, "seed": 3, "shift": shift}
    plain = evaluate_at(labels, scores, **options)
    by_patient = evaluate_at(labels, scores, **options, patients=patients)
    assert (plain.patients, by_patient.patients) == (None, PatientCounts(33, 10, 23))
    for name, one in by_patient.figures.items():
        before = plain.figures[name]
        assert one.value == pytest.approx(before.value, abs=1e-12), name
        assert (one.method == "stated") or one.method == f"{before.method}, by patient", name
        assert one.low <= one.value <= one.high, name
        if name != "prevalence":
            assert one.high - one.low > before.high - before.low, name


def test_images_of_one_patient_that_agree_tell_no_more_than_one_of_them(draw_images):
    labels, scores = draw_images(normal=20, pneumonia=30, auc=0.8)
    twice, again = np.repeat(labels, 2), np.repeat(scores, 2)
    patients = np.repeat(np.arange(50), 2)
    error, _ = to_placement_error(to_placements(twice, again), twice, patients)
    assert error == pytest.approx(to_placement_error(to_placements(labels, scores), labels, None)[0])


def test_the_size_of_a_share_by_hand():
    # Of four patients with two images each, those of one patient agree: the images tell as much as three.
    part, patients = np.array([1, 1, 1, 1, 0, 0, 1, 1], dtype=bool), np.repeat(np.arange(4), 2)
    student = (ndtri(0.975) / stdtrit(3, 0.975)) ** 2
    assert to_effective_size(part, patients) == pytest.approx(3 * student)
    # Nobody knows how alike images are where all are right: a patient is one image.
    assert to_effective_size(np.ones(8, dtype=bool), patients) == pytest.approx(4 * student)
    # Images that differ within each patient tell no more than images of as many patients.
    mixed = np.array([1, 0] * 4, dtype=bool)
    assert to_effective_size(mixed, patients) == pytest.approx(8 * student)


def test_a_share_of_one_patient_has_no_interval():
    one = to_share_interval(np.array([True, False]), np.array([True, True]), np.array([0, 0]))
    assert one.value == 0.5
    assert math.isnan(one.low) and math.isnan(one.high)


def test_resamples_draw_patients_and_keep_the_number_of_each_class():
    patients = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4, 5])
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0, 1, 1])  # patient 4 has both
    drawn = []
    estimate_errors(
        labels,
        lambda weights: drawn.append(weights) or {"any": weights[:, 0]},
        prevalence=None,
        patients=patients,
        resamples=500,
        seed=0,
    )
    weights = np.concatenate(drawn[1:])
    for label in (0, 1):
        of_class = weights[:, labels == label]
        np.testing.assert_allclose(of_class.sum(axis=1), (labels == label).sum())
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert len(np.unique(weights[:, 0])) > 2


def test_the_bootstraps_error_of_the_auc_is_obuchowskis():
    labels, patients, (scores,) = draw_patients(3, normal=100, ill=130)
    errors = estimate_errors(
        labels,
        lambda weights: to_resampled_figures(labels, scores, scores > 0.5, weights),
        prevalence=None,
        patients=patients,
        resamples=2000,
        seed=0,
    )
    error, _ = to_placement_error(to_placements(labels, scores), labels, patients)
    assert errors["auc"] == pytest.approx(error, rel=0.06)
    assert error > 1.2 * to_placement_error(to_placements(labels, scores), labels, None)[0]


def test_a_patient_may_have_images_of_both_classes():
    labels, patients, scores = draw_patients(5, rivals=2)
    labels[::7] = 1 - labels[::7]
    found = evaluate_at(labels, scores[0], 0.5, resamples=50, seed=1, patients=patients)
    assert all(one.low <= one.value <= one.high for one in found.figures.values())
    thresholds = {"first_threshold": 0.5, "second_threshold": 0.5}
    differences = compare_figures(labels, *scores, **thresholds, resamples=50, seed=1, patients=patients)
    assert all(one.low <= one.value <= one.high for one in differences.values())


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1]])
@pytest.mark.parametrize("patients", [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 2]])
@pytest.mark.parametrize("scores", [[0.1, 0.2, 0.8, 0.9], [0.5] * 4, [0.9, 0.8, 0.2, 0.6]])
def test_few_patients_have_a_defined_interval_or_none(labels, patients, scores):
    labels, patients, scores = np.array(labels), np.array(patients), np.array(scores)
    found = evaluate_at(labels, scores, 0.5, resamples=20, seed=1, patients=patients)
    for name, one in found.figures.items():
        assert math.isnan(one.low) or one.low <= one.value <= one.high, name
    thresholds = {"first_threshold": 0.5, "second_threshold": 0.5}
    options = {"resamples": 20, "seed": 1, "patients": patients}
    for name, one in compare_figures(labels, scores, scores[::-1].copy(), **thresholds, **options).items():
        assert math.isnan(one.low) or one.low <= one.value <= one.high, name


def test_95_percent_intervals_hold_the_truth_with_three_images_a_patient():
    """Intervals that take each image as independent hold it in 80 to 90 % of cases."""
    labels, _, (scores,) = draw_patients(0, normal=100_000, ill=230_000)
    truth = to_values(labels, scores)
    held = {"by patient": {}, "by image": {}}
    sets = 50
    for seed in range(sets):
        labels, groups, (scores,) = draw_patients(seed + 1)
        for way, patients in (("by patient", groups), ("by image", None)):
            options = {"resamples": 100, "seed": 0, "patients": patients}
            for name, one in to_intervals(labels, scores, scores > 0.5, **options).items():
                held[way][name] = held[way].get(name, 0) + (one.low <= truth[name] <= one.high) / sets
    assert min(held["by patient"].values()) > 0.88
    assert np.mean([held["by image"][name] for name in ("auc", "accuracy", "brier_loss", "f1_normal")]) < 0.91


def test_95_percent_of_differences_hold_none_with_three_images_a_patient():
    names, sets = ("auc", "accuracy", "sensitivity"), 50
    held = {"by patient": np.zeros(3), "by image": np.zeros(3)}
    for seed in range(sets):
        labels, groups, scores = draw_patients(seed, auc=0.85, rivals=2)
        for way, patients in (("by patient", groups), ("by image", None)):
            options = {"resamples": 100, "seed": 0, "patients": patients}
            found = compare_figures(labels, *scores, first_threshold=0.5, second_threshold=0.5, **options)
            held[way] += [(found[name].low <= 0 <= found[name].high) / sets for name in names]
    assert (held["by patient"] > 0.9).all()
    assert held["by image"][0] < 0.9


def test_a_figure_stands_where_a_class_of_one_patient_leaves_its_interval_undefined():
    labels = np.array([1, 1, 1, 1, 1, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.2, 0.7, 0.6, 0.1, 0.3, 0.7])
    patients = np.array([0, 1, 2, 3, 4, 5, 5, 5])
    shift = PrevalenceShift(0.5, 0.3)
    alone = evaluate_at(labels, scores, 0.5, seed=1, resamples=50, shift=shift).figures
    together = evaluate_at(labels, scores, 0.5, seed=1, resamples=50, shift=shift, patients=patients).figures
    for name in ("precision_pneumonia", "precision_normal"):
        assert together[name].value == pytest.approx(alone[name].value)
        assert np.isnan(together[name].low) and np.isnan(together[name].high)
