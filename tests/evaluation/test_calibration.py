import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.special import logit as to_logits

from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.calibration import (
    Calibration,
    LogitScaling,
    describe_calibration,
    fit_scaling,
    to_platt_targets,
    to_reliability_bins,
)
from pneumo_keras.evaluation.intervals import to_wilson_interval
from pneumo_keras.evaluation.metrics import to_calibration_error, to_figures
from pneumo_keras.storage.documents import parse_document, to_document


def fit_temperature(labels, logits):
    return fit_scaling("temperature", labels, logits)


def fit_platt(labels, logits):
    return fit_scaling("platt", labels, logits)


def fit_by_scipy(labels, logits, *, intercept):
    """Newton's method on the loss against soft targets, written down."""
    targets, columns = to_platt_targets(labels), np.stack([logits, np.full(len(logits), float(intercept))])

    def to_loss(parameters):
        scaled = parameters @ columns
        return np.mean(np.logaddexp(0, scaled) - targets * scaled)

    def to_gradient(parameters):
        return columns @ (expit(parameters @ columns) - targets) / len(labels)

    def to_hessian(parameters):
        scores = expit(parameters @ columns)
        return (columns * scores * (1 - scores)) @ columns.T / len(labels) + np.diag(
            [0.0, float(not intercept)]
        )

    return minimize(
        to_loss,
        [1 / np.std(logits), 0.0],
        jac=to_gradient,
        hess=to_hessian,
        method="trust-exact",
        options={"gtol": 1e-11},
    ).x


def test_platts_targets_by_hand():
    assert to_platt_targets(np.array([0, 1, 1])).tolist() == [1 / 3, 3 / 4, 3 / 4]


def test_temperature_agrees_with_newtons_method(draw_images):
    labels, scores = draw_images(auc=0.9)
    logits = 3 * to_logits(scores)
    slope, _ = fit_by_scipy(labels, logits, intercept=False)
    scaling = fit_temperature(labels, logits)
    assert scaling.slope == pytest.approx(slope, rel=1e-6)
    assert (scaling.intercept, scaling.method) == (0.0, "temperature")
    assert scaling.slope < 1 / 1.5


def test_platt_agrees_with_newtons_method(draw_images):
    labels, scores = draw_images(auc=0.9)
    logits = 4 + 2 * to_logits(scores)
    scaling = fit_platt(labels, logits)
    assert (scaling.slope, scaling.intercept) == pytest.approx(
        fit_by_scipy(labels, logits, intercept=True), rel=1e-6
    )


@pytest.mark.parametrize(("factor", "slope"), [(1e4, 0.01), (1e-4, 100.0)])
def test_a_temperature_stays_in_its_bounds(draw_images, factor, slope):
    labels, scores = draw_images(auc=0.9)
    assert fit_temperature(labels, factor * to_logits(scores)).slope == slope


@pytest.mark.parametrize("method", ["temperature", "platt"])
@pytest.mark.parametrize("logits", [[2.0, 1.0, -1.0, -2.0], [0.0, 0.0, 0.0, 0.0]])
def test_scores_that_rank_backwards_or_not_at_all_are_not_scaled(method, logits):
    """A negative slope would turn their order round, and an AUC of 0.1 into one of 0.9."""
    with pytest.raises(DataError) as error:
        fit_scaling(method, np.array([0, 0, 1, 1]), np.array(logits))
    line = str(error.value)
    assert line.startswith(
        f"evaluation.calibration = '{method}' must find scores that rise from normal to pneumonia. "
        "Received: a slope of "
    )
    assert line.endswith(
        ", for scores that rank the images backwards or not at all. Check whether labels are swapped "
        "(data.positive names the class that is pneumonia), or set evaluation.calibration to 'none'."
    )


@pytest.mark.parametrize("slope", [0.0, -1.0, float("nan")])
def test_a_calibration_that_turns_the_order_round_is_none(slope):
    with pytest.raises(ValueError, match="'slope' must be positive"):
        LogitScaling(slope, 0.0, "temperature")


def test_nothing_is_fitted_where_nothing_is_asked_for():
    scaling = fit_scaling("none", np.array([1]), np.array([0.3]))
    assert (scaling.slope, scaling.intercept, scaling.method) == (1.0, 0.0, "none")


def test_platt_stands_where_the_loss_is_level(draw_images):
    labels, scores = draw_images(auc=0.95)
    logits = to_logits(scores)
    errors = fit_platt(labels, logits).to_scores(logits) - to_platt_targets(labels)
    assert np.mean(errors) == pytest.approx(0, abs=1e-8)
    assert np.mean(errors * logits) == pytest.approx(0, abs=1e-7)


def test_a_known_distortion_is_undone():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 200_000)
    labels = (rng.random(len(logits)) < expit(logits)).astype(np.int64)
    assert 1 / fit_temperature(labels, 2.5 * logits).slope == pytest.approx(2.5, rel=0.02)
    scaling = fit_platt(labels, 2 * logits + 1)
    assert (scaling.slope, scaling.intercept) == pytest.approx((0.5, -0.5), abs=0.02)


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
def test_scaling_lowers_the_loss_and_keeps_the_order(draw_images, fit):
    labels, scores = draw_images(auc=0.9)
    logits = 4 * to_logits(scores) + 0.5
    scaled = fit(labels, logits).to_scores(logits)
    before, after = (to_figures(labels, one, one > 0.5) for one in (expit(logits), scaled))
    assert after["log_loss"] < before["log_loss"]
    assert after["auc"] == pytest.approx(before["auc"])


def test_images_without_overlap_have_a_finite_scaling():
    labels, logits = np.repeat([0, 1], [50, 50]), np.repeat([-1.0, 1.0], [50, 50])
    # The best scores are the targets: 51 / 52 at a logit of 1.
    assert fit_temperature(labels, logits).slope == pytest.approx(np.log(51), rel=1e-6)
    platt = fit_platt(labels, logits)
    assert (platt.slope, platt.intercept) == pytest.approx((np.log(51), 0.0), abs=1e-6)


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
def test_calibration_takes_both_classes(fit):
    with pytest.raises(DataError) as error:
        fit(np.array([1, 1]), np.array([0.5, 1.0]))
    assert str(error.value) == (
        "Calibration takes normal and pneumonia images. Received: 0 normal, 2 pneumonia."
    )


@pytest.mark.parametrize("method", ["none", "temperature", "platt"])
def test_a_calibration_says_what_scores_mean(draw_images, method):
    labels, scores = draw_images(auc=0.9)
    logits = 3 * to_logits(scores)
    scaling = fit_scaling(method, labels, logits)
    found = describe_calibration(scaling, labels, logits, fitted_on="val")
    # Heads see both classes with the same weight; an intercept moves scores to the images' own prevalence.
    assert found.prevalence == (390 / 624 if method == "platt" else 0.5)
    assert found.error_before == to_calibration_error(labels, expit(logits))
    assert found.error_after == to_calibration_error(labels, scaling.to_scores(logits))
    assert np.array_equal(found.to_scores(logits), scaling.to_scores(logits))
    document = to_document(found)
    assert list(document) == [
        *("slope", "intercept", "method", "fitted_on", "prevalence", "error_before", "error_after")
    ]
    assert parse_document(Calibration, json.dumps(document), name="calibration.json") == found


def test_an_empty_calibration_is_an_error():
    with pytest.raises(RunError) as error:
        parse_document(Calibration, "{}", name="run/calibration.json")
    assert str(error.value) == (
        "run/calibration.json is damaged: 'slope' is missing. Received: {}. Train or evaluate again."
    )


def test_the_reliability_table_by_hand():
    labels, scores = np.array([0, 1, 1]), np.array([0.01, 0.03, 0.99])
    first, last = (asdict(row) for row in to_reliability_bins(labels, scores))
    half, whole = to_wilson_interval(1 / 2, 2), to_wilson_interval(1.0, 1)
    assert first == pytest.approx(
        {
            "low": 0.0,
            "high": 1 / 15,
            "n": 2,
            "mean_score": 0.02,
            "prevalence": 0.5,
            "prevalence_low": half.low,
            "prevalence_high": half.high,
        }
    )
    assert (last["low"], last["high"], last["n"]) == (14 / 15, 1.0, 1)
    assert (last["prevalence"], last["prevalence_low"]) == (1.0, whole.low)


def test_the_reliability_table_sums_up_to_the_calibration_error(draw_images):
    labels, scores = draw_images(auc=0.8)
    table = to_reliability_bins(labels, scores)
    error = sum(row.n * abs(row.mean_score - row.prevalence) for row in table) / 624
    assert sum(row.n for row in table) == 624
    assert error == pytest.approx(to_calibration_error(labels, scores))


def test_no_images_have_no_table():
    with pytest.raises(DataError, match="nothing to evaluate"):
        to_reliability_bins(np.array([], dtype=np.int64), np.array([]))


def test_bins_at_a_stated_prevalence_are_those_of_images_drawn_to_it(draw_images):
    labels, scores = draw_images(normal=20, pneumonia=40, auc=0.8)
    more = np.where(labels == 1, 1, 18)
    table = to_reliability_bins(labels, scores, prevalence=0.1)
    written_out = to_reliability_bins(np.repeat(labels, more), np.repeat(scores, more))
    for row, other in zip(table, written_out, strict=True):
        assert (row.prevalence, row.mean_score) == pytest.approx((other.prevalence, other.mean_score))
        assert row.prevalence_low <= row.prevalence <= row.prevalence_high
