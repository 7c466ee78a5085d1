import subprocess
import sys

import numpy as np
import pytest

from pneumo_keras.errors import DataError
from pneumo_keras.evaluation.metrics import count_confusions
from pneumo_keras.evaluation.rules import (
    RULES,
    choose_cheapest_threshold,
    choose_sensitive_threshold,
    choose_youden_threshold,
    take_threshold,
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
def test_candidates_count_as_the_rule_for_calls_does(draw_images, digits):
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
        "import sys, pneumo_keras.evaluation.rules\n"
        "print(sorted({'keras', 'jax', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
