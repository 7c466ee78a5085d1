import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.evaluation.metrics import ConfusionCounts, count_confusions
from pneumo_keras.evaluation.threshold import (
    OperatingPoint,
    check_threshold,
    choose_cheapest_threshold,
    choose_operating_point,
    choose_sensitive_threshold,
    choose_youden_threshold,
    to_candidates,
)

LABELS = np.array([0, 0, 1, 0, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8])


def test_candidates_lie_midway_between_neighbouring_scores():
    thresholds, tp, fp = to_candidates(LABELS, SCORES)
    assert thresholds == pytest.approx([0.05, 0.15, 0.25, 0.35, 0.5, 0.7, 0.9])
    assert tp.tolist() == [3, 3, 3, 2, 2, 1, 0]
    assert fp.tolist() == [3, 2, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("digits", [None, 1])
def test_candidates_count_as_the_rule_for_calls_does(draw_films, digits):
    labels, scores = draw_films(normal=30, pneumonia=40, auc=0.8, digits=digits)
    for threshold, tp, fp in zip(*to_candidates(labels, scores), strict=True):
        counts = count_confusions(labels, scores, threshold)
        assert (counts.tp, counts.fp) == (tp, fp)


def test_scores_that_are_neighbours_on_the_float_grid_are_kept_apart():
    for low in (0.3, np.nextafter(0.3, 1), np.nextafter(1, 0)):
        scores = np.array([low, np.nextafter(low, 2)])
        thresholds, tp, _ = to_candidates(np.array([0, 1]), scores)
        assert ((scores[0] <= thresholds[1]) and (thresholds[1] < scores[1])) and tp.tolist() == [1, 1, 0]


def test_scores_of_zero_and_one_are_candidates_without_leaving_the_range():
    thresholds, tp, fp = to_candidates(np.array([0, 1]), np.array([0.0, 1.0]))
    assert thresholds.tolist() == [0.5, 1.0]
    assert (tp.tolist(), fp.tolist()) == ([1, 0], [0, 0])


def test_youden_by_hand():
    # 0.25 and 0.5 both reach 2 / 3 + 1 - 1: the lower one misses nothing.
    assert choose_youden_threshold(LABELS, SCORES) == pytest.approx(0.25)


def test_youden_agrees_with_the_roc_curve(draw_films):
    labels, scores = draw_films(auc=0.9)
    fpr, tpr, _ = roc_curve(labels, scores)
    point = choose_operating_point(labels, scores, rule="youden", chosen_on="val")
    assert point.sensitivity + point.specificity - 1 == pytest.approx((tpr - fpr).max())


@pytest.mark.parametrize(
    ("sensitivity", "threshold"),
    [(1.0, 0.25), (0.7, 0.25), (2 / 3, 0.5), (0.5, 0.5), (1 / 3, 0.7), (0.01, 0.7)],
)
def test_the_highest_threshold_that_is_sensitive_enough(sensitivity, threshold):
    assert choose_sensitive_threshold(LABELS, SCORES, sensitivity=sensitivity) == pytest.approx(threshold)


def test_a_sensitivity_is_reached_in_spite_of_rounding():
    # 0.07 * 100 is more than 7 in floating point.
    labels, scores = np.repeat([0, 1], [1, 100]), np.concatenate([[0.0], np.arange(1, 101) / 101])
    point = choose_operating_point(labels, scores, rule="sensitivity", sensitivity=0.07, chosen_on="val")
    assert point.counts.tp == 7


@pytest.mark.parametrize(
    ("cost_fn", "cost_fp", "threshold"),
    [(1.0, 1.0, 0.25), (1.0, 10.0, 0.5), (10.0, 1.0, 0.25), (0.1, 0.1, 0.25)],
)
def test_the_cheapest_threshold_by_hand(cost_fn, cost_fp, threshold):
    chosen = choose_cheapest_threshold(LABELS, SCORES, cost_fn=cost_fn, cost_fp=cost_fp)
    assert chosen == pytest.approx(threshold)


def test_only_the_ratio_of_costs_matters(draw_films):
    labels, scores = draw_films(auc=0.8)
    chosen = {
        choose_cheapest_threshold(labels, scores, cost_fn=3 * unit, cost_fp=unit)
        for unit in (1.0, 0.1, 7.0, 1e-9)
    }
    assert len(chosen) == 1


def test_costs_that_differ_by_rounding_are_equal():
    # 3 * 0.1 is more than 0.3 in floating point: three false alarms still weigh as one miss.
    labels, scores = np.array([1, 0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert choose_cheapest_threshold(labels, scores, cost_fn=0.3, cost_fp=0.1) == pytest.approx(0.05)


def test_no_threshold_is_cheaper(draw_films):
    labels, scores = draw_films(normal=50, pneumonia=60, auc=0.8)
    point = choose_operating_point(labels, scores, rule="cost", cost_fn=5.0, cost_fp=2.0, chosen_on="val")
    costs = [
        5 * counts.fn + 2 * counts.fp
        for counts in (count_confusions(labels, scores, threshold) for threshold in np.linspace(0, 1, 2001))
    ]
    assert 5 * point.counts.fn + 2 * point.counts.fp <= min(costs)


def test_tiny_numerical_differences_flip_no_film(draw_films):
    labels, scores = draw_films(normal=100, pneumonia=100)
    point = choose_operating_point(labels, scores, rule="youden", chosen_on="val")
    noise = np.random.default_rng(0).uniform(-1e-7, 1e-7, len(scores))
    assert count_confusions(labels, np.clip(scores + noise, 0, 1), point.threshold) == point.counts


def test_a_fixed_threshold_is_reported_with_what_it_reaches():
    point = choose_operating_point(LABELS, SCORES, rule="fixed", chosen_on="val")
    assert point == OperatingPoint(
        threshold=0.5,
        rule="fixed",
        demand={},
        chosen_on="val",
        counts=ConfusionCounts(tn=3, fp=0, fn=1, tp=2),
        sensitivity=2 / 3,
        specificity=1.0,
    )


@pytest.mark.parametrize("rule", ["fixed", "youden", "sensitivity", "cost"])
def test_an_operating_point_survives_json(rule):
    point = choose_operating_point(LABELS, SCORES, rule=rule, chosen_on="val", cost_fn=2.0)
    document = json.loads(json.dumps(point.to_dict(), allow_nan=False))
    assert OperatingPoint.from_dict(document) == point


def test_an_undefined_sensitivity_survives_json():
    point = choose_operating_point(np.array([0, 0]), np.array([0.1, 0.2]), rule="fixed", chosen_on="val")
    document = json.loads(json.dumps(point.to_dict(), allow_nan=False))
    assert document["sensitivity"] is None
    assert math.isnan(OperatingPoint.from_dict(document).sensitivity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "fixed", "threshold": 1.5}, "A threshold is a score in [0, 1]. Received: 1.5."),
        ({"rule": "fixed", "threshold": math.nan}, "A threshold is a score in [0, 1]. Received: nan."),
        (
            {"rule": "sensitivity", "sensitivity": 1.2},
            "The sensitivity to reach is a share in (0, 1]. Received: 1.2.",
        ),
        (
            {"rule": "sensitivity", "sensitivity": 0.0},
            "The sensitivity to reach is a share in (0, 1]. Received: 0.0.",
        ),
        ({"rule": "cost", "cost_fn": 0.0}, "Costs are positive numbers. Received: cost_fn 0.0, cost_fp 1.0."),
        (
            {"rule": "cost", "cost_fp": math.inf},
            "Costs are positive numbers. Received: cost_fn 1.0, cost_fp inf.",
        ),
    ],
)
def test_a_demand_out_of_range_is_an_error(arguments, message):
    with pytest.raises(SettingsError) as error:
        choose_operating_point(LABELS, SCORES, chosen_on="val", **arguments)
    assert str(error.value) == message


@pytest.mark.parametrize("rule", ["youden", "sensitivity", "cost"])
def test_one_class_gives_no_threshold(rule):
    with pytest.raises(DataError) as error:
        choose_operating_point(np.array([1, 1]), np.array([0.1, 0.2]), rule=rule, chosen_on="val")
    assert str(error.value) == (
        "Choosing a threshold takes normal and pneumonia films. Received: 0 normal, 2 pneumonia. "
        "Take the rule 'fixed'."
    )


def test_pneumonia_that_scores_zero_is_out_of_reach():
    with pytest.raises(DataError) as error:
        choose_sensitive_threshold(np.array([0, 1, 1]), np.array([0.5, 0.0, 0.9]), sensitivity=0.95)
    assert str(error.value) == (
        "No threshold reaches a sensitivity of 0.95: 1 of 2 pneumonia films score exactly 0. Ask for less."
    )


def test_no_films_give_no_threshold():
    with pytest.raises(DataError, match="nothing to evaluate"):
        choose_operating_point(np.array([], dtype=np.int64), np.array([]), rule="fixed", chosen_on="val")


@pytest.mark.parametrize(
    "change", [{"counts": {"tn": 1}}, {"threshold": "half"}, {"demand": None}, {"sensitivity": "high"}]
)
def test_a_document_that_is_no_operating_point_is_an_error(change):
    document = choose_operating_point(LABELS, SCORES, rule="fixed", chosen_on="val").to_dict() | change
    with pytest.raises(DataError) as error:
        OperatingPoint.from_dict(document)
    assert str(error.value) == (
        "An operating point holds chosen_on, counts, demand, rule, sensitivity, specificity, threshold. "
        f"Received: {document}."
    )


def test_a_document_without_a_threshold_is_an_error():
    with pytest.raises(DataError, match=r"^An operating point holds .* Received: {}\.$"):
        OperatingPoint.from_dict({})


def test_a_document_whose_threshold_is_no_score_is_an_error():
    document = choose_operating_point(LABELS, SCORES, rule="fixed", chosen_on="val").to_dict()
    with pytest.raises(SettingsError, match=r"Received: 7\.0\.$"):
        OperatingPoint.from_dict(document | {"threshold": 7})


def test_a_threshold_may_be_at_either_end():
    assert (check_threshold(0.0), check_threshold(1.0)) == (0.0, 1.0)
