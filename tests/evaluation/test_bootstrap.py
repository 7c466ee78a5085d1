import math

import numpy as np
import pytest

from pneumo_keras.evaluation import bootstrap
from pneumo_keras.evaluation.bootstrap import (
    draw_chance_errors,
    draw_figures,
    draw_precisions_and_gaps,
    draw_resamples,
    to_average_precision_interval,
    to_calibration_interval,
    to_percentiles,
)
from pneumo_keras.evaluation.figures import to_resampled_gaps
from pneumo_keras.evaluation.intervals import to_auc_variance
from pneumo_keras.evaluation.prevalence import PrevalenceShift, weigh_images
from pneumo_keras.evaluation.reliability import to_calibration_error


def test_resamples_hold_as_many_images_of_each_class(draw_images):
    labels, _ = draw_images()
    resamples = np.concatenate(list(draw_resamples(labels, 1000, seed=0)))
    assert resamples.shape == (1000, 624)
    assert (resamples[:, labels == 0].sum(axis=1) == 234).all()
    assert (resamples[:, labels == 1].sum(axis=1) == 390).all()


def test_every_image_is_drawn_once_on_average(draw_images):
    labels, _ = draw_images(normal=5, pneumonia=3)
    resamples = np.concatenate(list(draw_resamples(labels, 4000, seed=0)))
    assert resamples.mean(axis=0) == pytest.approx(np.ones(8), abs=0.06)
    # Drawn n times with chance 1 / n: the variance is 1 - 1 / n.
    assert resamples.var(axis=0) == pytest.approx(np.where(labels == 1, 2 / 3, 4 / 5), abs=0.08)


def test_resamples_come_in_chunks_that_bound_the_memory(draw_images, monkeypatch):
    labels, _ = draw_images()
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 624 * 3)
    assert [len(chunk) for chunk in draw_resamples(labels, 8, seed=0)] == [3, 3, 2]


def test_the_seed_decides_the_draws(draw_images):
    labels, scores = draw_images()
    first, again, other = (
        draw_figures(labels, [(scores, scores > 0.5)], resamples=50, seed=seed)[0]["auc"]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_classifiers_are_evaluated_on_the_same_resamples(draw_images):
    labels, scores = draw_images()
    first, second = draw_figures(labels, [(scores, scores > 0.5)] * 2, resamples=50, seed=0)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_draws_of_the_auc_spread_as_delongs_variance_says(draw_images):
    labels, scores = draw_images()
    (draws,) = draw_figures(labels, [(scores, scores > 0.5)], seed=0)
    assert np.std(draws["auc"]) == pytest.approx(math.sqrt(to_auc_variance(labels, scores)), rel=0.05)


def test_percentiles_by_hand():
    assert to_percentiles(np.arange(101.0), level=0.9) == pytest.approx((5.0, 95.0))


@pytest.mark.parametrize("draws", [[1.0, 1.0, 1.0], [0.5, math.nan, 0.7], [math.nan, math.nan]])
def test_draws_that_agree_or_fail_say_nothing(draws):
    low, high = to_percentiles(np.array(draws))
    assert math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize("prevalence", [None, 0.1])
def test_precisions_and_gaps_are_those_of_the_figures_draws(draw_images, prevalence):
    labels, scores = draw_images(normal=20, pneumonia=30)
    options = {"prevalence": prevalence, "resamples": 40, "seed": 3}
    (figures,) = draw_figures(labels, [(scores, scores > 0.5)], **options)
    precisions, gaps = draw_precisions_and_gaps(labels, scores, **options)
    assert precisions == pytest.approx(figures["average_precision"])
    assert np.abs(gaps).sum(axis=1) == pytest.approx(figures["calibration_error"])


def test_an_average_precisions_interval_by_hand():
    interval = to_average_precision_interval(0.9, np.array([0.85, 0.95]), rarer=5)
    # Five images of the rarer class: t with four degrees of freedom, variance times 5 / 4.
    half = 2.7764451 * 0.05 * math.sqrt(5 / 4) / (0.9 * 0.1)
    low, high = (math.exp(math.log(9) + sign * half) for sign in (-1, 1))
    assert (interval.low, interval.high) == pytest.approx((low / (1 + low), high / (1 + high)))
    assert interval.method == "bootstrap, stratified, logit t"


@pytest.mark.parametrize(
    ("value", "rarer", "draws"),
    [(1.0, 5, [1.0, 1.0]), (0.9, 1, [0.8, 0.9]), (math.nan, 9, [math.nan, math.nan]), (0.9, 5, [0.9, 0.9])],
)
def test_an_average_precision_that_images_say_nothing_of_has_no_interval(value, rarer, draws):
    interval = to_average_precision_interval(value, np.array(draws), rarer=rarer)
    assert math.isnan(interval.low) and math.isnan(interval.high)


def test_chance_errors_are_calibration_errors_of_drawn_labels(draw_images):
    labels, scores = draw_images(normal=20, pneumonia=30)
    drawn = np.random.default_rng(7).random((3, 50)) < scores
    expected = [to_calibration_error(row.astype(np.int64), scores) for row in drawn]
    assert draw_chance_errors(labels, scores, resamples=3, seed=7) == pytest.approx(expected)


# One bin that is 0.1 off, and noise of at most 0.02.
GAPS, DRAWN = np.array([-0.1]), np.linspace(-0.12, -0.08, 1001)[:, None]


def test_a_calibration_interval_by_hand():
    interval = to_calibration_interval(GAPS, DRAWN, np.linspace(0.0, 0.02, 1001))
    assert interval.value == pytest.approx(0.1)
    assert (interval.low, interval.high) == pytest.approx((0.081, 0.119), abs=1e-6)
    assert interval.method == "bootstrap, stratified, test inversion"


def test_a_calibration_error_that_chance_explains_may_be_zero():
    interval = to_calibration_interval(GAPS, DRAWN, np.linspace(0.0, 0.2, 1001))
    assert interval.low == 0.0 and interval.high == pytest.approx(0.119, abs=1e-6)


def test_noise_of_many_bins_lowers_both_bounds():
    noise = np.random.default_rng(0).normal(scale=0.02, size=(2000, 10))
    gaps = np.append(0.1, np.full(9, 0.016))
    interval = to_calibration_interval(gaps, gaps + noise, np.zeros(2000))
    percentiles = np.quantile(np.abs(gaps + noise).sum(axis=1), [0.025, 0.975])
    assert interval.low < percentiles[0] - 0.03 and interval.high < percentiles[1] - 0.02
    assert interval.low < interval.value < interval.high


def test_a_calibration_interval_holds_its_value():
    # Of one image each, the bins were found less off than any resample.
    interval = to_calibration_interval(np.array([0.01, 0.0]), np.array([[0.2, 0.3], [0.4, 0.2]]), np.zeros(2))
    assert interval.low == 0.0 and interval.high == interval.value == pytest.approx(0.01)


def test_three_images_have_a_calibration_interval():
    """The noise of some is the same in all resamples, to rounding, and outweighs the gaps by nothing else."""
    labels, scores = np.array([0, 1, 1]), np.random.default_rng(43).uniform(size=3)
    _, draws = draw_precisions_and_gaps(labels, scores, seed=0)
    (gaps,) = to_resampled_gaps(labels, scores, weigh_images(labels, None), np.ones((1, 3), dtype=np.int64))
    interval = to_calibration_interval(gaps, draws, draw_chance_errors(labels, scores, seed=0))
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize(("gaps", "draws"), [([0.1], [[0.1], [0.1]]), ([0.0], [[0.1], [0.2]])])
def test_gaps_that_say_nothing_have_no_interval(gaps, draws):
    interval = to_calibration_interval(np.array(gaps), np.array(draws), np.zeros(2))
    assert math.isnan(interval.low) and math.isnan(interval.high)


def find_calibrated(labels, scores, **options):
    """Whether the interval of the calibration error reaches 0."""
    _, draws = draw_precisions_and_gaps(labels, scores, **options)
    chance = draw_chance_errors(labels, scores, **options)
    weights = weigh_images(labels, options.get("prevalence"))
    (gaps,) = to_resampled_gaps(labels, scores, weights, np.ones((1, len(labels)), dtype=np.int64))
    return to_calibration_interval(gaps, draws, chance).low == 0.0


@pytest.mark.slow
def test_calibrated_scores_are_found_calibrated_in_95_percent_of_draws():
    rng = np.random.default_rng(0)
    held, draws = 0, 300
    for seed in range(draws):
        scores = rng.beta(0.5, 0.4, size=624)
        labels = (rng.random(624) < scores).astype(np.int64)
        held += find_calibrated(labels, scores, resamples=300, seed=seed)
    assert 0.91 <= held / draws <= 0.99


@pytest.mark.slow
def test_calibrated_scores_are_found_calibrated_at_a_stated_prevalence_too():
    rng = np.random.default_rng(0)
    held, draws, stated = 0, 300, 0.1
    for seed in range(draws):
        plain = rng.beta(0.5, 0.4, size=624)
        labels = (rng.random(624) < plain).astype(np.int64)
        scores = PrevalenceShift(0.5 / 0.9, stated).correct_scores(plain)
        held += find_calibrated(labels, scores, prevalence=stated, resamples=300, seed=seed)
    assert 0.91 <= held / draws <= 0.99
