import json
import math
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from pneumo_keras.errors import DataError, RunError, SettingsError
from pneumo_keras.evaluation.metrics import (
    ConfusionCounts,
    count_confusions,
    to_accuracy,
    to_sensitivity,
    to_specificity,
)
from pneumo_keras.evaluation.threshold import (
    RULES,
    OperatingPoint,
    choose_cheapest_threshold,
    choose_operating_point,
    choose_sensitive_threshold,
    choose_youden_threshold,
    take_threshold,
    to_candidates,
    to_threshold_curves,
)
from pneumo_keras.storage.documents import parse_document, to_document

LABELS = np.array([0, 0, 1, 0, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8])


def test_candidates_lie_midway_between_neighbouring_scores():
    thresholds, tp, fp = to_candidates(LABELS, SCORES)
    assert thresholds == pytest.approx([0.05, 0.15, 0.25, 0.35, 0.5, 0.7, 0.9])
    assert tp.tolist() == [3, 3, 3, 2, 2, 1, 0]
    assert fp.tolist() == [3, 2, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("digits", [None, 1])
def test_candidates_count_as_predictions_do(draw_images, digits):
    labels, scores = draw_images(normal=30, pneumonia=40, auc=0.8, digits=digits)
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


@pytest.mark.parametrize(
    ("sensitivity", "threshold"),
    [(1.0, 0.25), (0.7, 0.25), (2 / 3, 0.5), (0.5, 0.5), (1 / 3, 0.7), (0.01, 0.7)],
)
def test_the_highest_threshold_that_is_sensitive_enough(sensitivity, threshold):
    assert choose_sensitive_threshold(LABELS, SCORES, sensitivity=sensitivity) == pytest.approx(threshold)


@pytest.mark.parametrize(
    ("cost_fn", "cost_fp", "threshold"),
    [(1.0, 1.0, 0.25), (1.0, 10.0, 0.5), (10.0, 1.0, 0.25), (0.1, 0.1, 0.25)],
)
def test_the_cheapest_threshold_by_hand(cost_fn, cost_fp, threshold):
    chosen = choose_cheapest_threshold(LABELS, SCORES, cost_fn=cost_fn, cost_fp=cost_fp)
    assert chosen == pytest.approx(threshold)


def test_only_the_ratio_of_costs_matters(draw_images):
    labels, scores = draw_images(auc=0.8)
    chosen = {
        choose_cheapest_threshold(labels, scores, cost_fn=3 * unit, cost_fp=unit)
        for unit in (1.0, 0.1, 7.0, 1e-9)
    }
    assert len(chosen) == 1


def test_costs_that_differ_by_rounding_are_equal():
    # 3 * 0.1 is more than 0.3 in floating point: three false alarms still weigh as one miss.
    labels, scores = np.array([1, 0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert choose_cheapest_threshold(labels, scores, cost_fn=0.3, cost_fp=0.1) == pytest.approx(0.05)


def test_pneumonia_that_scores_zero_is_out_of_reach():
    with pytest.raises(DataError) as error:
        choose_sensitive_threshold(np.array([0, 1, 1]), np.array([0.5, 0.0, 0.9]), sensitivity=0.95)
    assert str(error.value) == (
        "No threshold reaches a sensitivity of 0.95: 1 of 2 pneumonia images score exactly 0. Ask for less."
    )


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_may_be_at_either_end(threshold):
    assert take_threshold(LABELS, SCORES, threshold=threshold) == threshold


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_of_the_table_chooses_and_is_put_into_words(rule):
    found = RULES[rule]
    assert 0 <= found.choose(LABELS, SCORES, **found.demands) <= 1
    text = found.description.format(**found.demands)
    assert "{" not in text and all(
        f"{value:g}" in text for value in found.demands.values() if found.from_images
    )


def test_the_table_needs_no_heavy_library():
    code = (
        "import sys, pneumo_keras.evaluation.threshold\n"
        "print(sorted({'keras', 'jax', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_youden_agrees_with_the_roc_curve(draw_images):
    labels, scores = draw_images(auc=0.9)
    fpr, tpr, _ = roc_curve(labels, scores)
    point = choose_operating_point(labels, scores, rule="youden", chosen_on="val")
    assert point.sensitivity + point.specificity - 1 == pytest.approx((tpr - fpr).max())


def test_a_sensitivity_is_reached_in_spite_of_rounding():
    # 0.07 * 100 is more than 7 in floating point.
    labels, scores = np.repeat([0, 1], [1, 100]), np.concatenate([[0.0], np.arange(1, 101) / 101])
    point = choose_operating_point(labels, scores, rule="sensitivity", sensitivity=0.07, chosen_on="val")
    assert point.counts.tp == 7


def test_no_threshold_is_cheaper(draw_images):
    labels, scores = draw_images(normal=50, pneumonia=60, auc=0.8)
    point = choose_operating_point(labels, scores, rule="cost", cost_fn=5.0, cost_fp=2.0, chosen_on="val")
    costs = [
        5 * counts.fn + 2 * counts.fp
        for counts in (count_confusions(labels, scores, threshold) for threshold in np.linspace(0, 1, 2001))
    ]
    assert 5 * point.counts.fn + 2 * point.counts.fp <= min(costs)


def test_tiny_numerical_differences_flip_no_image(draw_images):
    labels, scores = draw_images(normal=100, pneumonia=100)
    point = choose_operating_point(labels, scores, rule="youden", chosen_on="val")
    noise = np.random.default_rng(0).uniform(-1e-7, 1e-7, len(scores))
    assert count_confusions(labels, np.clip(scores + noise, 0, 1), point.threshold) == point.counts


def test_a_fixed_threshold_is_reported_with_what_it_reaches():
    point = choose_operating_point(LABELS, SCORES, rule="fixed", chosen_on="val")
    assert point == OperatingPoint(
        threshold=0.5,
        rule="fixed",
        demand={"threshold": 0.5},
        chosen_on="val",
        counts=ConfusionCounts(tn=3, fp=0, fn=1, tp=2),
        sensitivity=2 / 3,
        specificity=1.0,
    )


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
        "Choosing a threshold takes normal and pneumonia images. Received: 0 normal, 2 pneumonia. "
        "Take the rule 'fixed'."
    )


def test_no_images_give_no_threshold():
    with pytest.raises(DataError, match="nothing to evaluate"):
        choose_operating_point(np.array([], dtype=np.int64), np.array([]), rule="fixed", chosen_on="val")


def parse(document):
    return parse_document(OperatingPoint, json.dumps(document, allow_nan=False), name="operating_point.json")


@pytest.mark.parametrize("rule", ["fixed", "youden", "sensitivity", "cost"])
def test_an_operating_point_survives_json(rule):
    point = choose_operating_point(LABELS, SCORES, rule=rule, chosen_on="val", cost_fn=2.0)
    assert parse(to_document(point)) == point


def test_an_undefined_sensitivity_survives_json():
    point = choose_operating_point(np.array([0, 0]), np.array([0.1, 0.2]), rule="fixed", chosen_on="val")
    document = to_document(point)
    assert document["sensitivity"] is None
    assert math.isnan(parse(document).sensitivity)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"counts": {"tn": 1}}, "'counts.fp' is missing. Received: {'tn': 1}"),
        ({"threshold": "half"}, "'threshold' should be a valid number. Received: 'half'"),
        ({"threshold": None}, "'threshold' should be a valid number. Received: None"),
        ({"threshold": 7}, "'threshold' should be less than or equal to 1. Received: 7"),
        ({"sensitivity": "high"}, "'sensitivity' should be a valid number. Received: 'high'"),
        ({"extra": 1}, "'extra' is unknown. Received: 1"),
    ],
)
def test_a_document_that_is_no_operating_point_is_an_error(change, fault):
    document = to_document(choose_operating_point(LABELS, SCORES, rule="fixed", chosen_on="val")) | change
    with pytest.raises(RunError) as error:
        parse(document)
    assert str(error.value) == f"operating_point.json is damaged: {fault}. Train or evaluate again."


@pytest.mark.parametrize("rule", ["{threshold.__class__}", "best", ""])
def test_a_rule_that_is_not_in_the_table_is_refused(rule):
    document = to_document(choose_operating_point(LABELS, SCORES, rule="fixed", chosen_on="val"))
    with pytest.raises(RunError) as error:
        parse(document | {"rule": rule})
    assert str(error.value).startswith(
        "operating_point.json is damaged: 'rule' must be one of fixed, youden, sensitivity, cost, not "
        f"'{rule}'. Received: "
    )
    assert "\n" not in str(error.value)


def test_a_demand_that_is_not_the_rules_is_refused():
    document = to_document(choose_operating_point(LABELS, SCORES, rule="cost", chosen_on="val"))
    with pytest.raises(RunError, match="'demand' of the rule 'cost' must have cost_fn, cost_fp"):
        parse(document | {"demand": {"cost_fn": 1.0}})


def test_an_unknown_rule_is_an_error():
    with pytest.raises(SettingsError) as error:
        choose_operating_point(LABELS, SCORES, rule="best", chosen_on="val")
    assert str(error.value) == (
        "A threshold is chosen by one of fixed, youden, sensitivity, cost. Received: best."
    )


def test_a_fixed_threshold_was_chosen_on_no_images():
    point = choose_operating_point(LABELS, SCORES, rule="fixed", threshold=0.3, chosen_on="val")
    assert (point.threshold, point.demand) == (0.3, {"threshold": 0.3})
    assert point.describe_rule() == "given in the settings"


def test_a_rule_that_asks_images_says_which():
    point = choose_operating_point(LABELS, SCORES, rule="sensitivity", sensitivity=0.9, chosen_on="val")
    assert point.describe_rule() == (
        "the highest that reaches a sensitivity of 0.9, chosen on validation images"
    )


def test_threshold_curves_are_those_of_the_metrics(draw_images):
    labels, scores = draw_images(digits=2)
    for threshold, *curves in zip(*to_threshold_curves(labels, scores), strict=True):
        counts = count_confusions(labels, scores, threshold)
        assert curves == [to_sensitivity(counts), to_specificity(counts), to_accuracy(counts)]
