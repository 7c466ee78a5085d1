import math

import numpy as np
import pytest
from scipy.stats import binom

from pneumo_keras.evaluation.combined_intervals import to_f1_interval, to_mean_interval
from pneumo_keras.evaluation.intervals import Interval, to_wilson_interval
from pneumo_keras.evaluation.metrics import to_share

FIRST, SECOND = Interval(0.8, 0.7, 0.85, ""), Interval(0.6, 0.48, 0.72, "")
UNDEFINED = to_wilson_interval(0, 0)


def to_f1(recall, other, share):
    found, alarms = share * recall, (1 - share) * (1 - other)
    return 2 * found / (found + alarms + share)


def list_calls(pneumonia, normal):
    for found in range(pneumonia + 1):
        for right in range(normal + 1):
            yield to_wilson_interval(found, pneumonia), to_wilson_interval(right, normal)


def test_a_mean_of_two_shares_by_hand():
    interval = to_mean_interval(0.7, FIRST, SECOND)
    assert interval.low == pytest.approx(0.7 - math.hypot(0.1, 0.12) / 2)
    assert interval.high == pytest.approx(0.7 + math.hypot(0.05, 0.12) / 2)
    assert (interval.value, interval.method) == (0.7, "MOVER of Wilson")


def test_a_weighted_mean_by_hand():
    interval = to_mean_interval(0.62, FIRST, SECOND, share=0.1)
    assert interval.low == pytest.approx(0.62 - math.hypot(0.01, 0.108))
    assert interval.high == pytest.approx(0.62 + math.hypot(0.005, 0.108))


def test_an_f1_by_hand():
    # A quarter of the images: found 0.2, and 0.3 of others called so; 0.21 to 0.39 by the bounds.
    interval = to_f1_interval(to_f1(0.8, 0.6, 0.25), FIRST, SECOND, share=0.25)
    index, below = 0.2 / 0.55, math.hypot(math.log(0.8 / 0.7), math.log(0.64 / 0.55))
    above = math.hypot(math.log(0.85 / 0.8), math.log(0.55 / 0.46))
    assert interval.value == pytest.approx(2 * index / (1 + index))
    for bound, jaccard in ((interval.low, index / math.exp(below)), (interval.high, index * math.exp(above))):
        assert bound == pytest.approx(2 * jaccard / (1 + jaccard))


def test_nothing_found_may_be_bad_luck():
    interval = to_f1_interval(0.0, to_wilson_interval(0, 10), SECOND, share=0.5)
    assert interval.low == interval.value == 0.0
    assert interval.high == pytest.approx(to_f1(to_wilson_interval(0, 10).high, 0.72, 0.5))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.97])
def test_bounds_enclose_the_value_and_keep_inside_0_and_1(share):
    for recall, other in list_calls(3, 5):
        f1, mean = to_f1(recall.value, other.value, share), share * recall.value + (1 - share) * other.value
        for interval in (
            to_f1_interval(f1, recall, other, share=share),
            to_mean_interval(mean, recall, other, share=share),
        ):
            assert 0 <= interval.low <= interval.value + 1e-12
            assert interval.value - 1e-12 <= interval.high <= 1 + 1e-12
            assert interval.high - interval.low > 0.02


@pytest.mark.parametrize(("recall", "other"), [(UNDEFINED, SECOND), (FIRST, UNDEFINED)])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_class_has_no_interval(recall, other, share):
    for interval in (
        to_f1_interval(0.0, recall, other, share=share),
        to_mean_interval(math.nan, recall, other),
    ):
        assert math.isnan(interval.low) and math.isnan(interval.high)


@pytest.mark.parametrize(("pneumonia", "normal"), [(28, 12), (12, 28), (70, 30)])
@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.9, 0.9), (0.97, 0.78), (0.8, 0.6)])
def test_95_percent_intervals_hold_the_truth_in_most_of_all_outcomes(
    pneumonia, normal, sensitivity, specificity
):
    share = to_share(pneumonia, pneumonia + normal)
    chances = np.outer(
        binom.pmf(np.arange(pneumonia + 1), pneumonia, sensitivity),
        binom.pmf(np.arange(normal + 1), normal, specificity),
    ).ravel()
    f1, mean = to_f1(sensitivity, specificity, share), (sensitivity + specificity) / 2
    held = np.zeros(2)
    for chance, (recall, other) in zip(chances, list_calls(pneumonia, normal), strict=True):
        intervals = (
            to_f1_interval(to_f1(recall.value, other.value, share), recall, other, share=share),
            to_mean_interval((recall.value + other.value) / 2, recall, other),
        )
        held += [
            chance * (one.low <= true <= one.high) for one, true in zip(intervals, (f1, mean), strict=True)
        ]
    assert (held > 0.93).all() and (held < 0.98).all()
