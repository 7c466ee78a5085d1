import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp, ttest_ind

from pneumo_keras.evaluation.figures import to_image_losses
from pneumo_keras.evaluation.loss_intervals import to_loss_interval

EVEN = np.array([1.0, 2.0, 3.0, 4.0, 5.0])


def to_interval(labels, losses, **options):
    return to_loss_interval(float(losses.mean()), np.asarray(labels), losses, **options)


def test_losses_without_skewness_get_students_interval():
    interval = to_interval([1] * 5, EVEN, level=0.9)
    expected = ttest_1samp(EVEN, 0).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert (interval.value, interval.method) == (3.0, "Hall, Welch's t")


def test_classes_of_different_spread_get_welchs_interval():
    interval = to_interval([1] * 5 + [0] * 5, np.concatenate([EVEN + 10, 3 * EVEN + 20]))
    # The mean of two halves is a half of their sum, which has the error of their difference.
    difference = ttest_ind(EVEN, 3 * EVEN, equal_var=False).confidence_interval()
    assert interval.high - interval.low == pytest.approx((difference.high - difference.low) / 2)
    assert interval.high + interval.low == pytest.approx(2 * interval.value)


def test_bounds_solve_halls_equation():
    losses = np.array([0.1, 0.2, 0.1, 0.4, 2.0, 0.3, 0.1])
    interval = to_interval([0] * 7, losses)
    error = losses.std(ddof=1) / math.sqrt(7)
    skewness = np.sum((losses - losses.mean()) ** 3) / (7 * losses.var(ddof=1)) ** 1.5
    student = (interval.value - interval.high) / error
    hall = student + skewness * student**2 / 3 + skewness**2 * student**3 / 27 + skewness / 6
    assert hall == pytest.approx(t.ppf(0.025, 6))
    assert interval.high - interval.value > 1.5 * (interval.value - interval.low)


def test_a_hardly_skewed_loss_has_the_bounds_of_a_skewed_one_in_the_limit():
    skewed = [to_interval([1] * 5, EVEN + np.array([0, 0, 0, 0, more])) for more in (1e-5, 3e-6)]
    assert skewed[0].high == pytest.approx(skewed[1].high, rel=1e-4)


def test_no_loss_is_below_zero():
    assert to_interval([1, 1, 0, 0], np.array([0.0, 0.1, 0.0, 0.3])).low == 0.0


@pytest.mark.parametrize(
    ("labels", "losses"), [([1], [0.2]), ([0, 1, 1], [0.1, 0.2, 0.3]), ([0, 0, 1, 1], [0.1, 0.1, 0.2, 0.2])]
)
def test_images_that_say_nothing_of_the_spread_have_no_interval(labels, losses):
    interval = to_interval(labels, np.array(losses))
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert interval.value == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("name", ["brier_loss", "log_loss"])
def test_95_percent_intervals_of_40_images_hold_the_true_loss(draw_images, name):
    images, share = {"normal": 12, "pneumonia": 28, "auc": 0.95}, np.array([0.3, 0.7])
    labels, scores = draw_images(normal=200_000, pneumonia=200_000, auc=0.95, seed=9999)
    truth = float(np.mean(2 * share[labels] * to_image_losses(labels, scores)[name]))
    held, draws = 0, 1000
    for seed in range(draws):
        labels, scores = draw_images(**images, seed=seed)
        interval = to_interval(labels, to_image_losses(labels, scores)[name])
        held += interval.low <= truth <= interval.high
    assert 0.92 <= held / draws <= 0.98
