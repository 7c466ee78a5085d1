"""Figures and thresholds of any labels and scores, ties included, against scikit-learn and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from pneumo_keras.evaluation.intervals import to_auc_interval
from pneumo_keras.evaluation.metrics import (
    count_confusions,
    to_accuracy,
    to_figures,
    to_sensitivity,
    to_specificity,
)
from pneumo_keras.evaluation.threshold import choose_operating_point, to_threshold_curves

# Few different scores, so that there are ties; and any score at all.
ONE = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1)
IMAGES = st.lists(st.tuples(st.sampled_from([0, 1]), ONE), min_size=1, max_size=25)
BOTH = IMAGES.map(lambda rows: [(0, 0.5), (1, 0.5), *rows])


def to_arrays(rows):
    labels, scores = zip(*rows, strict=True)
    return np.array(labels, np.int64), np.array(scores, np.float64)


@given(IMAGES, ONE)
def test_calls_are_those_of_scikit_learn(rows, threshold):
    labels, scores = to_arrays(rows)
    counts = count_confusions(labels, scores, threshold)
    expected = sklearn_metrics.confusion_matrix(labels, scores > threshold, labels=[0, 1]).ravel().tolist()
    assert [counts.tn, counts.fp, counts.fn, counts.tp] == expected
    assert counts.n == len(rows)
    assert to_accuracy(counts) == pytest.approx(sklearn_metrics.accuracy_score(labels, scores > threshold))


@given(BOTH, ONE)
def test_figures_are_those_of_scikit_learn(rows, threshold):
    labels, scores = to_arrays(rows)
    calls = scores > threshold
    figures = to_figures(labels, scores, calls)
    expected = {
        "auc": sklearn_metrics.roc_auc_score(labels, scores),
        "average_precision": sklearn_metrics.average_precision_score(labels, scores),
        "brier_loss": np.mean((scores - labels) ** 2),
        "accuracy": np.mean(calls == labels),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, calls),
        "sensitivity": sklearn_metrics.recall_score(labels, calls),
        "specificity": sklearn_metrics.recall_score(labels, calls, pos_label=0),
        "prevalence": labels.mean(),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-12), name
    assert to_auc_interval(labels, scores).value == pytest.approx(expected["auc"], abs=1e-12)


@given(BOTH)
def test_the_auc_is_the_share_of_pairs_in_the_right_order(rows):
    labels, scores = to_arrays(rows)
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert to_figures(labels, scores, scores > 0.5)["auc"] == pytest.approx(expected, abs=1e-12)


def list_thresholds(scores):
    """One for each way to call these images."""
    return [0.0, *scores.tolist()]


@given(BOTH)
def test_youden_is_beaten_by_no_threshold(rows):
    labels, scores = to_arrays(rows)
    point = choose_operating_point(labels, scores, rule="youden", chosen_on="val")
    sums = [
        to_sensitivity(counts) + to_specificity(counts)
        for counts in (count_confusions(labels, scores, threshold) for threshold in list_thresholds(scores))
    ]
    assert point.sensitivity + point.specificity == pytest.approx(max(sums), abs=1e-12)
    assert point.counts == count_confusions(labels, scores, point.threshold)


@given(BOTH, st.floats(0.05, 0.95))
def test_a_sensitivity_is_reached_by_the_highest_threshold_that_can(rows, demand):
    labels, scores = to_arrays([(1, 1.0), *rows])
    wanted = [
        counts
        for counts in (count_confusions(labels, scores, threshold) for threshold in list_thresholds(scores))
        if to_sensitivity(counts) >= demand
    ]
    if not wanted:  # too many pneumonia images score 0
        return
    point = choose_operating_point(labels, scores, rule="sensitivity", sensitivity=demand, chosen_on="val")
    assert point.sensitivity >= demand
    assert point.specificity == pytest.approx(max(map(to_specificity, wanted)), abs=1e-12)


@given(BOTH, st.floats(0.1, 10), st.floats(0.1, 10))
def test_no_threshold_costs_less(rows, cost_fn, cost_fp):
    labels, scores = to_arrays(rows)
    point = choose_operating_point(
        labels, scores, rule="cost", cost_fn=cost_fn, cost_fp=cost_fp, chosen_on="val"
    )

    def to_cost(counts):
        return cost_fn * counts.fn + cost_fp * counts.fp

    costs = [to_cost(count_confusions(labels, scores, threshold)) for threshold in list_thresholds(scores)]
    assert to_cost(point.counts) <= min(costs) * (1 + 1e-9)


@given(IMAGES)
def test_threshold_curves_are_counted_threshold_by_threshold(rows):
    labels, scores = to_arrays(rows)
    for threshold, *found in zip(*to_threshold_curves(labels, scores), strict=True):
        counts = count_confusions(labels, scores, threshold)
        expected = (to_sensitivity(counts), to_specificity(counts), to_accuracy(counts))
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-12) or (math.isnan(one) and math.isnan(other))
