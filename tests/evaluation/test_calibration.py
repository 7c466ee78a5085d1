import numpy as np
import pytest
from scipy.special import expit
from scipy.special import logit as to_logits
from sklearn.linear_model import LogisticRegression

from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.evaluation.calibration import (
    correct_prevalence,
    fit_platt,
    fit_temperature,
    to_effective_prevalence,
    to_mean_loss,
    to_platt_targets,
)
from pneumo_keras.evaluation.metrics import to_auc, to_log_loss


def fit_by_scikit_learn(labels, logits, *, intercept):
    """Logistic regression against soft targets: each film once as pneumonia, once as normal."""
    targets = to_platt_targets(labels)
    model = LogisticRegression(C=np.inf, fit_intercept=intercept, tol=1e-12, max_iter=10_000)
    model.fit(
        np.concatenate([logits, logits])[:, None],
        np.repeat([1, 0], len(labels)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    return model.coef_.item(), float(np.ravel(model.intercept_)[0])


def test_platts_targets_by_hand():
    assert to_platt_targets(np.array([0, 1, 1])).tolist() == [1 / 3, 3 / 4, 3 / 4]


def test_temperature_agrees_with_scikit_learn(draw_films):
    labels, scores = draw_films(auc=0.9)
    logits = 3 * to_logits(scores)
    slope, _ = fit_by_scikit_learn(labels, logits, intercept=False)
    scaling = fit_temperature(labels, logits)
    assert scaling.slope == pytest.approx(slope, rel=1e-5)
    assert (scaling.intercept, scaling.method) == (0.0, "temperature")
    assert scaling.temperature > 1.5


def test_platt_agrees_with_scikit_learn(draw_films):
    labels, scores = draw_films(auc=0.9)
    logits = 40 + 20 * to_logits(scores)
    scaling = fit_platt(labels, logits)
    assert (scaling.slope, scaling.intercept) == pytest.approx(
        fit_by_scikit_learn(labels, logits, intercept=True), rel=1e-4
    )


def test_platt_stands_where_the_loss_is_level(draw_films):
    labels, scores = draw_films(auc=0.95)
    logits = to_logits(scores)
    errors = fit_platt(labels, logits).to_scores(logits) - to_platt_targets(labels)
    assert np.mean(errors) == pytest.approx(0, abs=1e-8)
    assert np.mean(errors * logits) == pytest.approx(0, abs=1e-7)


def test_a_known_distortion_is_undone():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 200_000)
    labels = (rng.random(len(logits)) < expit(logits)).astype(np.int64)
    assert fit_temperature(labels, 2.5 * logits).temperature == pytest.approx(2.5, rel=0.02)
    scaling = fit_platt(labels, 2 * logits + 1)
    assert (scaling.slope, scaling.intercept) == pytest.approx((0.5, -0.5), abs=0.02)


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
def test_scaling_lowers_the_loss_and_keeps_the_order(draw_films, fit):
    labels, scores = draw_films(auc=0.9)
    logits = 4 * to_logits(scores) + 0.5
    scaled = fit(labels, logits).to_scores(logits)
    assert to_log_loss(labels, scaled) < to_log_loss(labels, expit(logits))
    assert to_auc(labels, scaled) == pytest.approx(to_auc(labels, logits))


def test_films_without_overlap_have_a_finite_scaling():
    labels, logits = np.repeat([0, 1], [50, 50]), np.repeat([-1.0, 1.0], [50, 50])
    # The best scores are the targets: 51 / 52 at a logit of 1.
    assert fit_temperature(labels, logits).slope == pytest.approx(np.log(51), rel=1e-6)
    platt = fit_platt(labels, logits)
    assert (platt.slope, platt.intercept) == pytest.approx((np.log(51), 0.0), abs=1e-6)


def test_logits_that_say_nothing_are_scaled_to_the_prevalence():
    labels = np.repeat([0, 1], [20, 60])
    scores = fit_platt(labels, np.zeros(80)).to_scores(np.zeros(80))
    assert scores == pytest.approx(to_platt_targets(labels).mean(), abs=1e-6)


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
def test_calibration_takes_both_classes(fit):
    with pytest.raises(DataError) as error:
        fit(np.array([1, 1]), np.array([0.5, 1.0]))
    assert str(error.value) == (
        "Calibration takes normal and pneumonia films. Received: 0 normal, 2 pneumonia."
    )


def test_the_loss_from_logits_is_the_loss_from_scores(draw_films):
    labels, scores = draw_films()
    assert to_mean_loss(labels.astype(np.float64), to_logits(scores)) == pytest.approx(
        to_log_loss(labels, scores)
    )


def test_balanced_class_weights_make_even_odds():
    weights = {"normal_weight": 1.9390, "pneumonia_weight": 0.6737}
    assert to_effective_prevalence(1214, 3494, **weights) == pytest.approx(0.5, abs=1e-4)
    assert to_effective_prevalence(1, 3) == 0.75


def test_the_odds_are_multiplied():
    # Even odds at half prevalence; at a quarter they are 1 to 3.
    assert correct_prevalence(np.array([0.5]), trained=0.5, stated=0.25) == pytest.approx([0.25])
    # Odds 4, times (1/9) / (3/1): 4 / 27.
    assert correct_prevalence(np.array([0.8]), trained=0.75, stated=0.1) == pytest.approx([4 / 31])


def test_a_corrected_prevalence_can_be_taken_back():
    scores = np.array([0.0, 1e-12, 0.3, 0.999, 1.0])
    there = correct_prevalence(scores, trained=0.74, stated=0.2)
    assert correct_prevalence(there, trained=0.2, stated=0.74) == pytest.approx(scores, rel=1e-12)
    assert there[[0, -1]].tolist() == [0.0, 1.0]


def test_the_correction_is_bayes_rule():
    # Two normal distributions: the true posterior is known for every prevalence.
    x = np.linspace(-3, 3, 13)
    seen, used = expit(2 * x + np.log(0.74 / 0.26)), expit(2 * x + np.log(0.1 / 0.9))
    assert correct_prevalence(seen, trained=0.74, stated=0.1) == pytest.approx(used, rel=1e-10)


@pytest.mark.parametrize(("trained", "stated"), [(0.0, 0.5), (0.5, 1.0), (0.5, -0.1)])
def test_a_prevalence_out_of_range_is_an_error(trained, stated):
    with pytest.raises(SettingsError) as error:
        correct_prevalence(np.array([0.5]), trained=trained, stated=stated)
    assert str(error.value) == (
        f"A prevalence is a share in (0, 1). Received: trained on {trained}, stated {stated}."
    )
