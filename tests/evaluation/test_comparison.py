import math

import numpy as np
import pytest
from MLstatkit import Delong_test
from statsmodels.stats.contingency_tables import mcnemar

from pneumo_keras.evaluation.comparison import (
    compare_accuracies,
    compare_aucs,
    compare_figures,
    to_bootstrap_difference,
)


@pytest.fixture
def rivals(draw_films):
    """Two classifiers whose scores of the same films are alike, the second better."""
    labels, first = draw_films(auc=0.85)
    noise = np.random.default_rng(9).normal(0, 0.05, len(labels))
    return labels, first, np.clip(first + 0.1 * (labels - 0.5) + noise, 0, 1)


@pytest.mark.parametrize("digits", [1, 17])
def test_delongs_test_agrees_with_mlstatkit(rivals, digits):
    labels, first, second = rivals
    first, second = np.round(first, digits), np.round(second, digits)
    z, p_value, _, _, first_auc, second_auc, info = Delong_test(labels, first, second)
    difference = compare_aucs(labels, first, second)
    error = (difference.high - difference.low) / 2 / 1.959963984540054
    assert difference.value == pytest.approx(second_auc - first_auc, abs=1e-12)
    assert error**2 == pytest.approx(info["var_diff"], abs=1e-8)
    assert difference.value / error == pytest.approx(z, abs=1e-8)
    assert difference.p_value == pytest.approx(p_value, abs=1e-8)


def test_p_values_of_close_rivals_agree_with_mlstatkit(draw_films):
    labels, first = draw_films(auc=0.9)
    for seed in range(5):
        second = np.clip(first + np.random.default_rng(seed).normal(0, 0.1, len(labels)), 0, 1)
        p_value = compare_aucs(labels, first, second).p_value
        assert p_value == pytest.approx(Delong_test(labels, first, second)[1], rel=1e-8)
        assert p_value > 1e-6


def test_the_difference_changes_its_sign_with_the_order(rivals):
    labels, first, second = rivals
    forth, back = compare_aucs(labels, first, second), compare_aucs(labels, second, first)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.value > 0


def test_a_classifier_does_not_differ_from_itself(rivals):
    labels, first, _ = rivals
    difference = compare_aucs(labels, first, first**2)
    assert (difference.value, difference.p_value) == (0.0, 1.0)
    assert math.isnan(difference.low) and math.isnan(difference.high)


def test_flawless_against_hopeless_has_no_test():
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    difference = compare_aucs(labels, 1 - scores, scores)
    assert difference.to_dict() == {
        "value": 1.0,
        "low": None,
        "high": None,
        "p_value": None,
        "method": "DeLong, paired",
    }


def test_one_class_has_no_difference_of_aucs():
    difference = compare_aucs(np.array([1, 1]), np.array([0.1, 0.2]), np.array([0.3, 0.1]))
    assert math.isnan(difference.value) and math.isnan(difference.p_value)


def test_mcnemar_agrees_with_statsmodels(rivals):
    labels, first, second = rivals
    first_right, second_right = (first > 0.5) == labels, (second > 0.3) == labels
    table = [
        [np.sum((first_right == one) & (second_right == other)) for other in (True, False)]
        for one in (True, False)
    ]
    difference = compare_accuracies(labels, first, second, first_threshold=0.5, second_threshold=0.3)
    assert difference.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert difference.value == pytest.approx(second_right.mean() - first_right.mean())


def test_accuracies_by_hand():
    # The second mends 5 films and spoils none of 10.
    labels = np.array([1] * 10)
    first, second = np.array([0.4] * 5 + [0.6] * 5), np.array([0.6] * 10)
    difference = compare_accuracies(labels, first, second, first_threshold=0.5, second_threshold=0.5)
    assert difference.value == 0.5
    assert difference.p_value == pytest.approx(2 / 2**5)
    centre, half = 5 / 12, 1.959963984540054 * math.sqrt((7 / 12 - (5 / 12) ** 2) / 12)
    assert (difference.low, difference.high) == pytest.approx((centre - half, centre + half))


def test_equal_calls_have_equal_accuracy(rivals):
    labels, first, _ = rivals
    difference = compare_accuracies(labels, first, first, first_threshold=0.5, second_threshold=0.5)
    assert (difference.value, difference.p_value) == (0.0, 1.0)
    assert difference.low == pytest.approx(-difference.high)


def test_a_bootstrap_p_value_counts_the_rarer_side():
    difference = to_bootstrap_difference(0.5, np.array([-1.0] + [1.0] * 98))
    assert difference.p_value == pytest.approx(2 * 2 / 100)


def test_all_figures_are_compared_on_the_same_films(rivals):
    labels, first, second = rivals
    differences = compare_figures(
        labels, first, second, first_threshold=0.5, second_threshold=0.5, resamples=500, seed=0
    )
    assert len(differences) == 13 and "prevalence" not in differences
    assert differences["auc"] == compare_aucs(labels, first, second)
    assert differences["accuracy"].method.startswith("McNemar")
    assert differences["log_loss"].value < 0 < differences["average_precision"].value
    for difference in differences.values():
        assert difference.low <= difference.value <= difference.high
        assert 0 < difference.p_value <= 1
    assert differences["brier_loss"].p_value < 0.05


def test_paired_bounds_of_the_auc_agree_with_the_bootstraps(rivals):
    from pneumo_keras.evaluation.bootstrap import draw_figures

    labels, first, second = rivals
    before, after = draw_figures(labels, [(first, 0.5), (second, 0.5)], seed=0)
    resampled = to_bootstrap_difference(0.0, after["auc"] - before["auc"])
    difference = compare_aucs(labels, first, second)
    assert (resampled.low, resampled.high) == pytest.approx((difference.low, difference.high), abs=2e-3)


def test_comparison_of_one_class_does_not_fail():
    labels, first, second = np.array([1, 1, 1]), np.array([0.2, 0.6, 0.7]), np.array([0.6, 0.6, 0.8])
    differences = compare_figures(
        labels, first, second, first_threshold=0.5, second_threshold=0.5, resamples=20, seed=0
    )
    assert math.isnan(differences["balanced_accuracy"].value)
    assert differences["sensitivity"].value == pytest.approx(1 / 3)
