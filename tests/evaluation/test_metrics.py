import math

import numpy as np
import pytest

from pneumo_keras.evaluation import metrics
from pneumo_keras.evaluation.metrics import ConfusionCounts

REFERENCE = ConfusionCounts(tn=131, fp=103, fn=22, tp=368)
"""Confusion matrix of the reference protocol on the test split."""


def test_images_are_counted_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    scores = np.array([0.1, 0.6, 0.2, 0.9, 0.4, 0.8, 0.7])
    assert metrics.count_confusions(labels, scores, 0.5) == ConfusionCounts(tn=2, fp=1, fn=1, tp=3)


def test_a_score_on_the_threshold_is_called_normal():
    labels, scores = np.array([0, 1]), np.array([0.5, 0.5])
    assert metrics.count_confusions(labels, scores, 0.5) == ConfusionCounts(tn=1, fp=0, fn=1, tp=0)


def test_prevalence_is_the_share_of_pneumonia():
    assert metrics.to_prevalence(np.array([1, 1, 1, 0])) == 0.75


def test_figures_of_nothing_are_nan():
    none = ConfusionCounts(tn=0, fp=0, fn=0, tp=0)
    for to_figure in (
        metrics.to_accuracy,
        metrics.to_sensitivity,
        metrics.to_specificity,
    ):
        assert math.isnan(to_figure(none))


def test_shares_of_the_reference_protocol():
    assert REFERENCE.n == 624
    assert metrics.to_accuracy(REFERENCE) == pytest.approx(499 / 624)
    assert metrics.to_sensitivity(REFERENCE) == pytest.approx(368 / 390)
    assert metrics.to_specificity(REFERENCE) == pytest.approx(131 / 234)
