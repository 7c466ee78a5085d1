import math

import numpy as np
import pytest
from MLstatkit import Delong_test
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from pneumo_keras.evaluation.intervals import (
    Interval,
    to_auc_interval,
    to_auc_variance,
    to_guessing_error,
    to_newcombe_interval,
    to_placement_variance,
    to_placements,
    to_precision_interval,
    to_wilson_interval,
    to_z,
)
from pneumo_keras.storage.documents import to_document


def to_naive_variance(labels, scores):
    """DeLong, DeLong and Clarke-Pearson's own definition, pair by pair."""
    pneumonia, normal = scores[labels == 1], scores[labels == 0]
    wins = np.array([[(x > y) + (x == y) / 2 for y in normal] for x in pneumonia])
    auc = wins.mean()
    m, n = wins.shape
    s10 = sum((wins[i].mean() - auc) ** 2 for i in range(m)) / (m - 1)
    s01 = sum((wins[:, j].mean() - auc) ** 2 for j in range(n)) / (n - 1)
    return s10 / m + s01 / n


@pytest.mark.parametrize(
    ("part", "whole"), [(0, 5), (5, 5), (1, 1), (1, 7), (368, 390), (131, 234), (549, 624)]
)
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_agrees_with_statsmodels(part, whole, level):
    interval = to_wilson_interval(part, whole, level=level)
    low, high = proportion_confint(part, whole, alpha=1 - level, method="wilson")
    assert interval.value == part / whole
    assert interval.low == pytest.approx(low, abs=1e-12)
    assert interval.high == pytest.approx(high, abs=1e-12)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_wilson_by_hand():
    # All of 1: low = 1 / (1 + z^2).
    assert to_wilson_interval(1, 1).low == pytest.approx(1 / (1 + 1.959963984540054**2))
    assert to_wilson_interval(1, 1).high == 1.0


def test_a_share_of_nothing_has_no_interval():
    interval = to_wilson_interval(0, 0)
    assert to_document(interval) == {"value": None, "low": None, "high": None, "method": "Wilson"}


def test_a_precision_at_a_stated_prevalence_by_hand():
    # Sensitivity 0.9 of 20, false alarms 0.2 of 10, prevalence 0.1: odds 0.09 / 0.18.
    interval = to_precision_interval(18, 20, 2, 10, prevalence=0.1)
    assert interval.value == pytest.approx(1 / 3)
    # Variance of the log odds: 0.1 / 18 + 0.8 / 2.
    half = 1.959963984540054 * math.sqrt(0.1 / 18 + 0.8 / 2)
    low, high = (math.exp(math.log(0.5) + sign * half) for sign in (-1, 1))
    assert (interval.low, interval.high) == pytest.approx((low / (1 + low), high / (1 + high)))
    assert interval.method == "Mercaldo, logit"


@pytest.mark.parametrize(("found", "alarms", "value"), [(20, 0, 1.0), (0, 2, 0.0), (20, 10, 0.3)])
def test_a_precision_at_the_edge_has_an_interval(found, alarms, value):
    interval = to_precision_interval(found, 20, alarms, 10, prevalence=0.3)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.value == pytest.approx(value)


@pytest.mark.parametrize(("found", "alarms"), [(20, 0), (0, 2)])
def test_a_precision_of_one_or_none_is_not_a_certain_one(found, alarms):
    interval = to_precision_interval(found, 20, alarms, 10, prevalence=0.3)
    assert 0.1 < interval.high - interval.low < 0.9


def test_no_call_has_no_precision():
    interval = to_precision_interval(0, 20, 0, 10, prevalence=0.3)
    assert math.isnan(interval.value) and math.isnan(interval.low) and math.isnan(interval.high)


@pytest.mark.slow
@pytest.mark.parametrize(("images", "others"), [(390, 234), (40, 60)])
def test_95_percent_intervals_hold_the_true_precision(images, others):
    rng, held, draws = np.random.default_rng(0), 0, 4000
    truth = 0.1 * 0.95 / (0.1 * 0.95 + 0.9 * 0.15)
    for _ in range(draws):
        found, alarms = int(rng.binomial(images, 0.95)), int(rng.binomial(others, 0.15))
        interval = to_precision_interval(found, images, alarms, others, prevalence=0.1)
        held += interval.low <= truth <= interval.high
    assert 0.94 <= held / draws <= 0.97


def test_guessing_spreads_as_mann_and_whitney_say():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [30, 20])
    aucs = [roc_auc_score(labels, rng.random(50)) for _ in range(1000)]
    assert to_guessing_error(30, 20) == pytest.approx(np.std(aucs), rel=0.1)


def test_placements_by_hand():
    labels = np.array([1, 0, 1, 0])
    scores = np.array([0.5, 0.5, 0.9, 0.1])
    pneumonia, normal = to_placements(labels, scores)
    assert pneumonia.tolist() == [0.75, 1.0]
    assert normal.tolist() == [0.75, 1.0]
    assert to_auc_variance(labels, scores) == pytest.approx(0.03125 / 2 + 0.03125 / 2)


@pytest.mark.parametrize("digits", [None, 1, 2])
@pytest.mark.parametrize(("normal", "pneumonia"), [(2, 2), (5, 40), (40, 30)])
def test_delongs_variance_agrees_with_its_definition(draw_images, digits, normal, pneumonia):
    labels, scores = draw_images(normal=normal, pneumonia=pneumonia, auc=0.7, digits=digits, seed=3)
    assert to_auc_variance(labels, scores) == pytest.approx(to_naive_variance(labels, scores), abs=1e-12)
    assert to_placements(labels, scores)[0].mean() == pytest.approx(roc_auc_score(labels, scores))
    assert to_placements(labels, scores)[1].mean() == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize("digits", [None, 1])
def test_delongs_variance_agrees_with_mlstatkit(draw_images, digits):
    labels, scores = draw_images(auc=0.9, digits=digits)
    _, other = draw_images(auc=0.9, seed=1)
    (low, _), auc = np.take(Delong_test(labels, scores, other)[2], [0, 1]), roc_auc_score(labels, scores)
    assert math.sqrt(to_auc_variance(labels, scores)) == pytest.approx((auc - low) / to_z(0.95), abs=1e-8)


def test_the_aucs_interval_is_symmetric_in_its_logit(draw_images):
    labels, scores = draw_images(auc=0.9)
    interval = to_auc_interval(labels, scores)
    odds = [share / (1 - share) for share in (interval.low, interval.value, interval.high)]
    assert odds[1] / odds[0] == pytest.approx(odds[2] / odds[1])
    error = math.sqrt(to_auc_variance(labels, scores)) / (interval.value * (1 - interval.value))
    assert math.log(odds[2] / odds[1]) == pytest.approx(1.959963984540054 * error)
    assert interval.value == pytest.approx(roc_auc_score(labels, scores))
    assert interval.method == "DeLong, logit"


def test_mirrored_labels_mirror_the_interval(draw_images):
    labels, scores = draw_images(auc=0.8)
    interval, mirrored = to_auc_interval(labels, scores), to_auc_interval(1 - labels, scores)
    assert mirrored.low == pytest.approx(1 - interval.high)
    assert mirrored.high == pytest.approx(1 - interval.low)


def test_a_flawless_ranking_is_not_a_certain_one():
    labels, scores = np.repeat([0, 1], [234, 390]), np.repeat([0.2, 0.9], [234, 390])
    interval = to_auc_interval(labels, scores)
    assert (interval.value, interval.high, interval.method) == (1.0, 1.0, "Newcombe, method 5")
    assert 0.97 < interval.low < 0.999


@pytest.mark.parametrize(
    ("auc", "pneumonia", "normal"), [(0.8, 10, 1), (0.97, 39, 23), (1.0, 5, 5), (0.0, 5, 5)]
)
def test_newcombes_bounds_solve_his_equation(auc, pneumonia, normal):
    interval = to_newcombe_interval(auc, pneumonia, normal)
    others = (pneumonia + normal) / 2 - 1
    for bound in (interval.low, interval.high):
        spread = 1 + others * (1 - bound) / (2 - bound) + others * bound / (1 + bound)
        variance = bound * (1 - bound) * spread / (pneumonia * normal)
        assert (auc - bound) ** 2 == pytest.approx(1.959963984540054**2 * variance, abs=1e-9)
    assert interval.low <= auc <= interval.high
    assert interval.high - interval.low > 0.05


def test_one_image_of_a_class_has_an_interval():
    labels, scores = np.array([0, 1, 1, 1]), np.array([0.5, 0.4, 0.6, 0.7])
    assert math.isnan(to_auc_variance(labels, scores))
    interval = to_auc_interval(labels, scores)
    assert interval.value == pytest.approx(2 / 3)
    assert 0 < interval.low < 2 / 3 < interval.high < 1


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc(label):
    labels, scores = np.full(3, label), np.array([0.1, 0.2, 0.3])
    assert math.isnan(to_auc_variance(labels, scores))
    interval = to_auc_interval(labels, scores)
    assert to_document(interval) == to_document(Interval(math.nan, math.nan, math.nan, "DeLong, logit"))


@pytest.mark.slow
@pytest.mark.parametrize("auc", [0.90, 0.97])
def test_95_percent_intervals_hold_the_true_auc_in_95_percent_of_draws(draw_images, auc):
    held = symmetric = 0
    draws = 2000
    for seed in range(draws):
        labels, scores = draw_images(auc=auc, seed=seed)
        interval = to_auc_interval(labels, scores)
        held += interval.low <= auc <= interval.high
        half = to_z(0.95) * math.sqrt(to_placement_variance(*to_placements(labels, scores)))
        symmetric += abs(interval.value - auc) <= half
    assert 0.93 <= held / draws <= 0.97
    assert abs(held / draws - 0.95) <= abs(symmetric / draws - 0.95) + 0.005
