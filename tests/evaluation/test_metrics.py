import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pneumo_keras.evaluation import metrics
from pneumo_keras.evaluation.metrics import ConfusionCounts

REFERENCE = ConfusionCounts(tn=131, fp=103, fn=22, tp=368)
"""Confusion matrix of the reference protocol on the test split."""


def test_films_are_counted_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    scores = np.array([0.1, 0.6, 0.2, 0.9, 0.4, 0.8, 0.7])
    assert metrics.count_confusions(labels, scores, 0.5) == ConfusionCounts(tn=2, fp=1, fn=1, tp=3)


def test_a_score_on_the_threshold_is_called_normal():
    labels, scores = np.array([0, 1]), np.array([0.5, 0.5])
    assert metrics.count_confusions(labels, scores, 0.5) == ConfusionCounts(tn=1, fp=0, fn=1, tp=0)


def test_figures_of_the_reference_protocol():
    assert REFERENCE.n == 624
    assert metrics.to_accuracy(REFERENCE) == pytest.approx(499 / 624)
    assert metrics.to_sensitivity(REFERENCE) == pytest.approx(368 / 390)
    assert metrics.to_specificity(REFERENCE) == pytest.approx(131 / 234)
    assert metrics.to_balanced_accuracy(REFERENCE) == pytest.approx((368 / 390 + 131 / 234) / 2)
    assert metrics.to_precision_pneumonia(REFERENCE) == pytest.approx(368 / 471)
    assert metrics.to_precision_normal(REFERENCE) == pytest.approx(131 / 153)
    assert metrics.to_f1_pneumonia(REFERENCE) == pytest.approx(736 / 861)
    assert metrics.to_f1_normal(REFERENCE) == pytest.approx(262 / 387)


def test_calls_agree_with_scikit_learn(draw_films):
    labels, scores = draw_films(auc=0.8)
    calls = scores > 0.3
    counts = metrics.count_confusions(labels, scores, 0.3)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(labels, calls)
    assert metrics.to_accuracy(counts) == pytest.approx(sklearn_metrics.accuracy_score(labels, calls))
    assert metrics.to_balanced_accuracy(counts) == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(labels, calls)
    )
    assert [metrics.to_precision_normal(counts), metrics.to_precision_pneumonia(counts)] == pytest.approx(
        precision
    )
    assert [metrics.to_specificity(counts), metrics.to_sensitivity(counts)] == pytest.approx(recall)
    assert [metrics.to_f1_normal(counts), metrics.to_f1_pneumonia(counts)] == pytest.approx(f1)


def test_auc_and_average_precision_by_hand():
    labels = np.array([0, 0, 1, 1, 1])
    scores = np.array([0.1, 0.6, 0.4, 0.6, 0.9])
    # Of 6 pairs 0.4 wins one, 0.6 wins one and ties one, 0.9 wins both.
    assert metrics.to_auc(labels, scores) == pytest.approx(4.5 / 6)
    # From the top: 0.9 finds 1 of 1, the two 0.6 find 2 of 3, 0.4 finds 3 of 4.
    assert metrics.to_average_precision(labels, scores) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_losses_by_hand():
    labels, scores = np.array([1, 0]), np.array([0.8, 0.4])
    assert metrics.to_brier_loss(labels, scores) == pytest.approx((0.04 + 0.16) / 2)
    assert metrics.to_log_loss(labels, scores) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


def test_a_sure_and_wrong_film_costs_at_most_24_bits():
    assert metrics.to_log_loss(np.array([1]), np.array([0.0])) == pytest.approx(24 * math.log(2))
    assert metrics.to_log_loss(np.array([0]), np.array([1.0])) == pytest.approx(24 * math.log(2))


def test_prevalence_is_the_share_of_pneumonia():
    assert metrics.to_prevalence(np.array([1, 1, 1, 0])) == 0.75


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_ranking(label):
    labels, scores = np.full(4, label), np.array([0.1, 0.2, 0.7, 0.8])
    assert math.isnan(metrics.to_auc(labels, scores))
    assert math.isnan(metrics.to_average_precision(labels, scores))
    assert metrics.to_brier_loss(labels, scores) == pytest.approx(np.mean((scores - label) ** 2))


def test_figures_of_nothing_are_nan():
    none = ConfusionCounts(tn=0, fp=0, fn=0, tp=0)
    for to_figure in (
        metrics.to_accuracy,
        metrics.to_sensitivity,
        metrics.to_specificity,
        metrics.to_balanced_accuracy,
        metrics.to_precision_pneumonia,
        metrics.to_precision_normal,
        metrics.to_f1_pneumonia,
        metrics.to_f1_normal,
    ):
        assert math.isnan(to_figure(none))


def test_finding_nothing_that_is_there_has_f1_zero():
    assert metrics.to_f1_pneumonia(ConfusionCounts(tn=3, fp=0, fn=2, tp=0)) == 0.0
