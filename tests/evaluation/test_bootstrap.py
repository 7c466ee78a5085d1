import math

import numpy as np
import pytest

from pneumo_keras.evaluation import bootstrap
from pneumo_keras.evaluation.bootstrap import (
    draw_chance_errors,
    draw_figures,
    draw_resamples,
    to_bootstrap_interval,
    to_calibration_interval,
    to_percentiles,
)
from pneumo_keras.evaluation.intervals import to_auc_variance
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.reliability import to_calibration_error


def test_resamples_hold_as_many_films_of_each_class(draw_films):
    labels, _ = draw_films()
    resamples = np.concatenate(list(draw_resamples(labels, 1000, seed=0)))
    assert resamples.shape == (1000, 624)
    assert (resamples[:, labels == 0].sum(axis=1) == 234).all()
    assert (resamples[:, labels == 1].sum(axis=1) == 390).all()


def test_every_film_is_drawn_once_on_average(draw_films):
    labels, _ = draw_films(normal=5, pneumonia=3)
    resamples = np.concatenate(list(draw_resamples(labels, 4000, seed=0)))
    assert resamples.mean(axis=0) == pytest.approx(np.ones(8), abs=0.06)
    # Drawn n times with chance 1 / n: the variance is 1 - 1 / n.
    assert resamples.var(axis=0) == pytest.approx(np.where(labels == 1, 2 / 3, 4 / 5), abs=0.08)


def test_resamples_come_in_chunks_that_bound_the_memory(draw_films, monkeypatch):
    labels, _ = draw_films()
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 624 * 3)
    assert [len(chunk) for chunk in draw_resamples(labels, 8, seed=0)] == [3, 3, 2]


def test_the_seed_decides_the_draws(draw_films):
    labels, scores = draw_films()
    first, again, other = (
        draw_figures(labels, [(scores, scores > 0.5)], resamples=50, seed=seed)[0]["auc"]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_classifiers_are_judged_on_the_same_resamples(draw_films):
    labels, scores = draw_films()
    first, second = draw_figures(labels, [(scores, scores > 0.5)] * 2, resamples=50, seed=0)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_draws_of_the_auc_spread_as_delongs_variance_says(draw_films):
    labels, scores = draw_films()
    (draws,) = draw_figures(labels, [(scores, scores > 0.5)], seed=0)
    assert np.std(draws["auc"]) == pytest.approx(math.sqrt(to_auc_variance(labels, scores)), rel=0.05)


def test_percentiles_by_hand():
    assert to_percentiles(np.arange(101.0), level=0.9) == pytest.approx((5.0, 95.0))


@pytest.mark.parametrize("draws", [[1.0, 1.0, 1.0], [0.5, math.nan, 0.7], [math.nan, math.nan]])
def test_draws_that_agree_or_fail_say_nothing(draws):
    interval = to_bootstrap_interval(1.0, np.array(draws))
    assert interval.value == 1.0
    assert math.isnan(interval.low) and math.isnan(interval.high)


def test_chance_errors_are_calibration_errors_of_drawn_labels(draw_films):
    labels, scores = draw_films(normal=20, pneumonia=30)
    drawn = np.random.default_rng(7).random((3, 50)) < scores
    expected = [to_calibration_error(row.astype(np.int64), scores) for row in drawn]
    assert draw_chance_errors(labels, scores, resamples=3, seed=7) == pytest.approx(expected)


def test_a_calibration_interval_is_reflected_at_the_value():
    draws, chance = np.linspace(0.06, 0.12, 1001), np.linspace(0.0, 0.02, 1001)
    interval = to_calibration_interval(0.08, draws, chance, level=0.9)
    assert (interval.low, interval.high) == pytest.approx((0.16 - 0.117, 0.16 - 0.063))


def test_a_calibration_error_that_chance_explains_may_be_zero():
    draws, chance = np.linspace(0.03, 0.05, 1001), np.linspace(0.0, 0.04, 1001)
    interval = to_calibration_interval(0.035, draws, chance)
    assert interval.low == 0.0 and interval.high >= 0.035


def test_a_calibration_interval_holds_its_value():
    interval = to_calibration_interval(0.03, np.linspace(0.04, 0.05, 100), np.zeros(100))
    assert interval.low <= 0.03 <= interval.high


@pytest.mark.slow
def test_calibrated_scores_are_found_calibrated_in_95_percent_of_draws():
    rng = np.random.default_rng(0)
    held, draws = 0, 300
    for seed in range(draws):
        scores = rng.beta(0.5, 0.4, size=624)
        labels = (rng.random(624) < scores).astype(np.int64)
        (figures,) = draw_figures(labels, [(scores, scores > 0.5)], resamples=300, seed=seed)
        chance = draw_chance_errors(labels, scores, resamples=300, seed=seed)
        value = to_calibration_error(labels, scores)
        held += to_calibration_interval(value, figures["calibration_error"], chance).low == 0.0
    assert 0.91 <= held / draws <= 0.99


@pytest.mark.slow
def test_calibrated_scores_are_found_calibrated_at_a_stated_prevalence_too():
    rng = np.random.default_rng(0)
    held, draws, stated = 0, 300, 0.1
    for seed in range(draws):
        plain = rng.beta(0.5, 0.4, size=624)
        labels = (rng.random(624) < plain).astype(np.int64)
        scores = PrevalenceShift(0.5 / 0.9, stated).correct_scores(plain)
        options = {"prevalence": stated, "resamples": 300, "seed": seed}
        (figures,) = draw_figures(labels, [(scores, scores > 0.5)], **options)
        chance = draw_chance_errors(labels, scores, **options)
        value = to_calibration_error(labels, scores, prevalence=stated)
        held += to_calibration_interval(value, figures["calibration_error"], chance).low == 0.0
    assert 0.91 <= held / draws <= 0.99
