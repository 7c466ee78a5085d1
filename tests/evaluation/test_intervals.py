import math

import numpy as np
import pytest
from MLstatkit import Delong_test
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from pneumo_keras.evaluation.intervals import (
    FEWEST_IMAGES,
    Interval,
    Z,
    estimate_errors,
    list_short_intervals,
    to_auc_interval,
    to_bootstrap_interval,
    to_calibration_interval,
    to_chance_error,
    to_intervals,
    to_placement_error,
    to_placements,
    to_share_interval,
    to_wilson_interval,
)
from pneumo_keras.evaluation.metrics import to_calibration_error, to_figures, to_resampled_figures
from pneumo_keras.storage.documents import to_document


def is_undefined(interval):
    return math.isnan(interval.low) and math.isnan(interval.high)


def to_naive_variance(labels, scores):
    """DeLong, DeLong and Clarke-Pearson's own definition, pair by pair."""
    pneumonia, normal = scores[labels == 1], scores[labels == 0]
    wins = np.array([[(x > y) + (x == y) / 2 for y in normal] for x in pneumonia])
    auc = wins.mean()
    m, n = wins.shape
    s10 = sum((wins[i].mean() - auc) ** 2 for i in range(m)) / (m - 1)
    s01 = sum((wins[:, j].mean() - auc) ** 2 for j in range(n)) / (n - 1)
    return s10 / m + s01 / n


def to_auc_error(labels, scores):
    return to_placement_error(to_placements(labels, scores), labels, None)[0]


@pytest.mark.parametrize(
    ("part", "whole"), [(0, 5), (5, 5), (1, 1), (1, 7), (368, 390), (131, 234), (549, 624)]
)
def test_wilson_agrees_with_statsmodels(part, whole):
    interval = to_wilson_interval(part / whole, whole)
    assert (interval.low, interval.high) == pytest.approx(
        proportion_confint(part, whole, alpha=0.05, method="wilson"), abs=1e-12
    )
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_a_share_of_nothing_has_no_interval():
    interval = to_share_interval(np.array([True]), np.array([False]))
    assert to_document(interval) == {"value": None, "low": None, "high": None, "method": "Wilson"}


def test_placements_by_hand():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.9, 0.1])
    assert to_placements(labels, scores).tolist() == [0.75, 0.75, 1.0, 1.0]
    assert to_auc_error(labels, scores) == pytest.approx(math.sqrt(0.03125 / 2 + 0.03125 / 2))


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize(("normal", "pneumonia"), [(2, 2), (5, 40), (40, 30)])
def test_delongs_variance_agrees_with_its_definition(draw_images, digits, normal, pneumonia):
    labels, scores = draw_images(normal=normal, pneumonia=pneumonia, auc=0.7, digits=digits, seed=3)
    assert to_auc_error(labels, scores) ** 2 == pytest.approx(to_naive_variance(labels, scores), abs=1e-12)
    for label in (0, 1):
        placements = to_placements(labels, scores)[labels == label]
        assert placements.mean() == pytest.approx(roc_auc_score(labels, scores))


def test_delongs_variance_agrees_with_mlstatkit(draw_images):
    labels, scores = draw_images(auc=0.9, digits=1)
    _, other = draw_images(auc=0.9, seed=1)
    (low, _), auc = np.take(Delong_test(labels, scores, other)[2], [0, 1]), roc_auc_score(labels, scores)
    assert to_auc_error(labels, scores) == pytest.approx((auc - low) / Z, abs=1e-8)


def test_the_aucs_interval_is_symmetric_in_its_logit(draw_images):
    labels, scores = draw_images(auc=0.9)
    interval = to_auc_interval(labels, scores)
    odds = [share / (1 - share) for share in (interval.low, interval.value, interval.high)]
    assert odds[1] / odds[0] == pytest.approx(odds[2] / odds[1])
    error = to_auc_error(labels, scores) / (interval.value * (1 - interval.value))
    assert math.log(odds[2] / odds[1]) == pytest.approx(1.959963984540054 * error)
    assert interval.value == pytest.approx(roc_auc_score(labels, scores))
    assert interval.method == "DeLong, logit"


def test_mirrored_labels_mirror_the_interval(draw_images):
    labels, scores = draw_images(auc=0.8)
    interval, mirrored = to_auc_interval(labels, scores), to_auc_interval(1 - labels, scores)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - interval.high, 1 - interval.low))


def test_a_flawless_ranking_is_not_a_certain_one():
    labels, scores = np.repeat([0, 1], [234, 390]), np.repeat([0.2, 0.9], [234, 390])
    assert to_auc_interval(labels, scores) == to_wilson_interval(1.0, 234)
    assert to_auc_interval(1 - labels, scores) == to_wilson_interval(0.0, 234)


def test_one_image_of_a_class_has_an_interval():
    interval = to_auc_interval(np.array([0, 1, 1, 1]), np.array([0.5, 0.4, 0.6, 0.7]))
    assert interval == to_wilson_interval(interval.value, 1)
    assert interval.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc(label):
    interval = to_auc_interval(np.full(3, label), np.array([0.1, 0.2, 0.3]))
    assert to_document(interval) == to_document(Interval(math.nan, math.nan, math.nan, "DeLong, logit"))


def estimate(labels, scores, **options):
    def measure(weights):
        return to_resampled_figures(labels, scores, scores > 0.5, weights)

    return estimate_errors(
        labels, measure, **{"prevalence": None, "patients": None, "resamples": 500, "seed": 0, **options}
    )


def test_errors_of_the_bootstrap_agree_with_formulas(draw_images):
    """DeLong's, the binomial's and that of a stratified mean."""
    labels, scores = draw_images()
    errors = estimate(labels, scores, resamples=2000)
    right = (scores > 0.5) == labels
    losses = (scores - labels) ** 2
    of_mean = [np.var(losses[labels == label]) * (labels == label).sum() / 624**2 for label in (0, 1)]
    expected = {
        "auc": to_auc_error(labels, scores),
        "sensitivity": math.sqrt(np.var(right[labels == 1]) / 390),
        "brier_loss": math.sqrt(sum(of_mean)),
    }
    assert {name: errors[name] for name in expected} == pytest.approx(expected, rel=0.06)


def test_resamples_keep_the_images_of_each_class(draw_images):
    labels, scores = draw_images(normal=5, pneumonia=3)
    assert estimate(labels, scores)["prevalence"] == pytest.approx(0, abs=1e-12)
    drawn = []
    estimate_errors(
        labels,
        lambda weights: drawn.append(weights) or {"any": weights[:, 0]},
        prevalence=None,
        patients=None,
        resamples=2000,
        seed=0,
    )
    weights = np.concatenate(drawn[1:])
    assert weights.shape == (2000, 8)
    assert (weights[:, labels == 1].sum(axis=1) == 3).all()
    # Drawn n times with chance 1 / n: the variance is 1 - 1 / n.
    assert weights.mean(axis=0) == pytest.approx(np.ones(8), abs=0.08)
    assert weights.var(axis=0) == pytest.approx(np.where(labels == 1, 2 / 3, 4 / 5), abs=0.1)


def test_the_seed_decides_the_errors(draw_images):
    labels, scores = draw_images()
    first, again, other = (estimate(labels, scores, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_one_image_of_a_class_says_nothing_of_others():
    errors = estimate(np.array([0, 1, 1]), np.array([0.1, 0.4, 0.8]))
    assert all(math.isnan(error) for error in errors.values())


def test_resamples_that_lack_a_figure_are_left_out():
    # One image of ten is predicted to show pneumonia: a third of all resamples predict none.
    labels, scores = np.repeat([0, 1], 5), np.array([0.1] * 4 + [0.9] + [0.2] * 5)
    errors = estimate(labels, scores)
    assert errors["precision_pneumonia"] == pytest.approx(0) and errors["specificity"] > 0


def test_a_bootstrap_interval_by_hand():
    # Symmetric in the logit, whose slope at 0.9 is 1 / 0.09.
    interval = to_bootstrap_interval("average_precision", 0.9, 0.045)
    low, high = (math.exp(math.log(9) + sign * 0.5) for sign in (-1, 1))
    assert (interval.low, interval.high) == pytest.approx((low / (1 + low), high / (1 + high)))
    assert interval.method == "bootstrap, Student's t, logit"
    interval = to_bootstrap_interval("log_loss", 2.0, 0.4)
    assert (interval.low, interval.high) == pytest.approx((2 * math.exp(-0.2), 2 * math.exp(0.2)))
    assert interval.method == "bootstrap, Student's t, log"


def test_intervals_of_few_images_take_students_quantile(draw_images):
    labels, scores = draw_images(normal=5, pneumonia=9, auc=0.7)
    values = to_figures(labels, scores, scores > 0.5)
    found = to_intervals(labels, scores, scores > 0.5, resamples=200, seed=0)["brier_loss"]
    error = estimate(labels, scores, resamples=200)["brier_loss"]
    assert found == to_bootstrap_interval("brier_loss", values["brier_loss"], stats.t.ppf(0.975, 4) * error)
    # Resamples of five images vary by 4 / 5 of what images do.
    losses = (scores - labels) ** 2
    variance = sum(np.var(losses[labels == label]) * (labels == label).sum() / 14**2 for label in (0, 1))
    assert error == pytest.approx(math.sqrt(5 / 4 * variance), rel=0.15)


@pytest.mark.parametrize(("value", "half"), [(1.0, 0.1), (0.0, 0.1), (0.9, 0.0), (math.nan, math.nan)])
def test_a_figure_that_images_say_nothing_of_has_no_interval(value, half):
    assert is_undefined(to_bootstrap_interval("f1_normal", value, half))


def test_a_calibration_error_that_chance_explains_may_be_zero():
    interval = to_calibration_interval(0.1, 0.02, 0.03)
    assert (interval.low, interval.high) == pytest.approx((0.05, 0.12))
    assert to_calibration_interval(0.1, 0.02, 0.09).low == 0.0
    assert is_undefined(to_calibration_interval(0.1, 0.0, 0.03))


def test_chance_errors_are_those_of_labels_that_the_scores_draw():
    rng = np.random.default_rng(0)
    scores = rng.beta(0.5, 0.4, size=300)
    drawn = (rng.random((200, 300)) < scores).astype(np.int64)
    errors = [to_calibration_error(labels, scores) for labels in drawn]
    chance = [to_chance_error(labels, scores) for labels in drawn]
    assert np.mean(chance) == pytest.approx(np.mean(errors), rel=0.05)


def test_few_images_of_a_class_have_short_intervals_of_losses():
    intervals = dict.fromkeys(("brier_loss", "log_loss", "auc"), Interval(0.5, 0.4, 0.6, ""))
    assert list_short_intervals(intervals, FEWEST_IMAGES - 1) == ["brier_loss", "log_loss"]
    assert list_short_intervals(intervals, FEWEST_IMAGES) == []
    undefined = intervals | {"log_loss": Interval(0.5, math.nan, math.nan, "")}
    assert list_short_intervals(undefined, 2) == ["brier_loss"]


@pytest.mark.slow
def test_95_percent_intervals_hold_the_true_figures(draw_images):
    """More figures and sizes: measure_coverage.py."""
    labels, scores = draw_images(normal=200_000, pneumonia=400_000, auc=0.9)
    truth = {
        name: float(value[0])
        for name, value in to_resampled_figures(labels, scores, scores > 0.5, np.ones((1, 600_000))).items()
    }
    held, sets = dict.fromkeys(truth, 0.0), 100
    for seed in range(sets):
        labels, scores = draw_images(normal=50, pneumonia=100, auc=0.9, seed=seed + 1)
        for name, one in to_intervals(labels, scores, scores > 0.5, resamples=200, seed=0).items():
            held[name] += (one.low <= truth[name] <= one.high) / sets
    assert min(held.values()) > 0.89
