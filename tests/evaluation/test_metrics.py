import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pneumo_keras.errors import DataError
from pneumo_keras.evaluation import metrics
from pneumo_keras.evaluation.metrics import (
    BINS,
    LOG_LOSS_CLIP,
    ConfusionCounts,
    check_scores,
    find_mistakes,
    to_bin_index,
    to_calibration_error,
    to_figures,
    to_log_losses,
    to_resampled_figures,
    weigh_images,
)

REFERENCE = ConfusionCounts(tn=131, fp=103, fn=22, tp=368)
"""Confusion matrix of the reference protocol on the test split."""

NAMES = [
    *("auc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity"),
    *("precision_pneumonia", "precision_normal", "f1_pneumonia", "f1_normal"),
    *("brier_loss", "log_loss", "calibration_error", "prevalence"),
]


def test_a_score_on_the_threshold_is_predicted_normal():
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    scores = np.array([0.1, 0.6, 0.5, 0.9, 0.5, 0.8, 0.7])
    assert metrics.count_confusions(labels, scores, 0.5) == ConfusionCounts(tn=2, fp=1, fn=1, tp=3)


def test_shares_of_the_reference_protocol():
    assert REFERENCE.n == 624
    assert metrics.to_accuracy(REFERENCE) == pytest.approx(499 / 624)
    assert metrics.to_sensitivity(REFERENCE) == pytest.approx(368 / 390)
    assert metrics.to_specificity(REFERENCE) == pytest.approx(131 / 234)


@pytest.mark.parametrize("to_figure", [metrics.to_accuracy, metrics.to_sensitivity, metrics.to_specificity])
def test_figures_of_nothing_are_nan(to_figure):
    assert math.isnan(to_figure(ConfusionCounts(tn=0, fp=0, fn=0, tp=0)))


def test_the_most_confident_mistakes_come_first():
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1], dtype=np.int64)
    scores = np.array([0.4, 0.9, 0.1, 0.5, 0.6, 0.99, 0.2, 0.5, 0.1])
    missed, alarms = find_mistakes(labels, scores, 0.5, limit=3)
    assert missed.tolist() == [2, 8, 0]  # ties in the order of the images; 3 is the fourth
    assert alarms.tolist() == [5, 4]  # a score on the threshold is predicted normal


def test_predictions_of_the_reference_protocol():
    labels = np.repeat([0, 0, 1, 1], [131, 103, 22, 368])
    scores = np.repeat([0.2, 0.8, 0.2, 0.8], [131, 103, 22, 368])
    figures = to_figures(labels, scores, scores > 0.5)
    assert list(figures) == NAMES
    assert figures["accuracy"] == pytest.approx(499 / 624)
    assert figures["balanced_accuracy"] == pytest.approx((368 / 390 + 131 / 234) / 2)
    assert figures["precision_pneumonia"] == pytest.approx(368 / 471)
    assert figures["precision_normal"] == pytest.approx(131 / 153)
    assert figures["f1_pneumonia"] == pytest.approx(736 / 861)
    assert figures["f1_normal"] == pytest.approx(262 / 387)


def test_auc_and_average_precision_by_hand():
    labels, scores = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.6, 0.4, 0.6, 0.9])
    figures = to_figures(labels, scores, scores > 0.5)
    # Of 6 pairs 0.4 wins one, 0.6 wins one and ties one, 0.9 wins both.
    assert figures["auc"] == pytest.approx(4.5 / 6)
    # From the top: 0.9 finds 1 of 1, the two 0.6 find 2 of 3, 0.4 finds 3 of 4.
    assert figures["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_losses_by_hand():
    labels, scores = np.array([1, 0]), np.array([0.8, 0.4])
    figures = to_figures(labels, scores, scores > 0.5)
    assert figures["brier_loss"] == pytest.approx((0.04 + 0.16) / 2)
    assert figures["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert figures["log_loss"] == pytest.approx(to_log_losses(labels, scores).mean())


def test_a_sure_and_wrong_image_costs_at_most_24_bits():
    labels, scores = np.array([1, 0]), np.array([0.0, 1.0])
    assert to_figures(labels, scores, scores > 0.5)["log_loss"] == pytest.approx(24 * np.log(2))


def test_finding_nothing_that_is_there_has_f1_zero():
    labels, scores = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])
    assert to_figures(labels, scores, scores > 0.5)["f1_pneumonia"] == 0.0


def to_naive_error(labels, scores):
    error = 0.0
    for low in np.arange(BINS) / BINS:
        inside = (scores > low) & (scores <= low + 1 / BINS)
        if inside.any():
            error += inside.mean() * abs(scores[inside].mean() - labels[inside].mean())
    return error


def test_the_calibration_error_agrees_with_a_plain_loop(draw_images):
    labels, scores = draw_images(auc=0.8)
    assert to_calibration_error(labels, scores) == pytest.approx(to_naive_error(labels, scores), abs=1e-12)


def test_the_calibration_error_by_hand():
    labels, scores = np.array([0, 1, 1, 1]), np.array([0.41, 0.45, 0.91, 0.93])
    # Two bins: |0.43 - 0.5| and |0.92 - 1|, half of the images each.
    assert to_calibration_error(labels, scores) == pytest.approx(0.075)


def test_a_score_on_an_edge_belongs_to_the_bin_below():
    assert to_bin_index(np.array([0.0, 0.2, 0.21, 1.0])).tolist() == [0, 2, 3, 14]


def test_weighted_images_stand_for_the_stated_population():
    labels = np.array([0, 1, 1, 1])
    weights = weigh_images(labels, 0.1)
    assert weights == pytest.approx(np.array([0.9 / 0.25, *[0.1 / 0.75] * 3]))
    assert np.average(labels, weights=weights) == pytest.approx(0.1)
    assert weigh_images(labels, None).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("label", "counts"), [(0, "3 normal, 0"), (1, "0 normal, 3")])
def test_images_of_one_class_stand_for_no_population(label, counts):
    with pytest.raises(DataError) as error:
        weigh_images(np.full(3, label), 0.1)
    assert str(error.value) == (
        f"A stated prevalence takes normal and pneumonia images. Received: {counts} pneumonia."
    )


def test_figures_at_a_stated_prevalence_by_hand():
    # Sensitivity 0.9 and specificity 0.8, in a population of which 10 % have pneumonia: of 1,000 images
    # 90 are found, 10 missed, 180 are false alarms and 720 rightly normal.
    labels, predicted = np.repeat([1, 0], [20, 10]), np.repeat([True, False, True, False], [18, 2, 2, 8])
    figures = to_figures(labels, predicted * 0.6 + 0.2, predicted, prevalence=0.1)
    assert figures["precision_pneumonia"] == pytest.approx(90 / 270)
    assert figures["precision_normal"] == pytest.approx(720 / 730)
    assert figures["accuracy"] == pytest.approx(0.81)
    assert figures["f1_pneumonia"] == pytest.approx(180 / 370)
    assert figures["prevalence"] == pytest.approx(0.1)
    assert figures["brier_loss"] == pytest.approx(0.81 * 0.04 + 0.19 * 0.64)
    plain = to_figures(labels, predicted * 0.6 + 0.2, predicted)
    for name in ("auc", "sensitivity", "specificity", "balanced_accuracy"):
        assert figures[name] == pytest.approx(plain[name])


def test_a_stated_prevalence_is_that_of_images_drawn_to_it(draw_images):
    # 40 pneumonia images and 18 times 20 normal ones: written out instead of weighted.
    labels, scores = draw_images(normal=20, pneumonia=40, auc=0.8)
    more = np.where(labels == 1, 1, 18)
    expected = to_figures(np.repeat(labels, more), np.repeat(scores, more), np.repeat(scores, more) > 0.5)
    figures = to_figures(labels, scores, scores > 0.5, prevalence=0.1)
    assert figures == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prevalence", [None, 0.05])
@pytest.mark.parametrize("digits", [None, 1])
def test_a_resample_is_its_images_repeated(draw_images, digits, prevalence):
    labels, scores = draw_images(normal=20, pneumonia=30, auc=0.8, digits=digits)
    predicted = scores > 0.4
    drawn = np.random.default_rng(0).integers(0, 3, (8, 50))
    drawn[:, [np.argmin(labels), np.argmax(labels)]] += 1  # of either class
    weights = np.stack([counts * weigh_resample(labels, counts, prevalence) for counts in drawn])
    resampled = to_resampled_figures(labels, scores, predicted, weights)
    for row, counts in enumerate(drawn):
        images = (np.repeat(values, counts) for values in (labels, scores, predicted))
        expected = to_figures(*images, prevalence=prevalence)
        assert {name: resampled[name][row] for name in NAMES} == pytest.approx(expected, abs=1e-12)


def weigh_resample(labels, counts, prevalence):
    if prevalence is None:
        return np.ones(len(labels))
    own = np.average(labels, weights=counts)
    return np.where(labels == 1, prevalence / own, (1 - prevalence) / (1 - own))


def test_weighted_figures_agree_with_scikit_learns_weights(draw_images):
    labels, scores = draw_images(auc=0.8, digits=2)
    weights = np.random.default_rng(0).random((3, len(labels)))
    clipped, predicted = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP), scores > 0.5
    drawn = to_resampled_figures(labels, scores, predicted, weights)
    to_expected = {
        "auc": (sklearn_metrics.roc_auc_score, scores),
        "average_precision": (sklearn_metrics.average_precision_score, scores),
        "accuracy": (sklearn_metrics.accuracy_score, predicted),
        "balanced_accuracy": (sklearn_metrics.balanced_accuracy_score, predicted),
        "precision_pneumonia": (sklearn_metrics.precision_score, predicted),
        "f1_pneumonia": (sklearn_metrics.f1_score, predicted),
        "brier_loss": (sklearn_metrics.brier_score_loss, scores),
        "log_loss": (sklearn_metrics.log_loss, clipped),
    }
    for name, (to_figure, given) in to_expected.items():
        expected = [to_figure(labels, given, sample_weight=weight) for weight in weights]
        assert drawn[name] == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_the_rest_defined(label):
    labels, scores = np.full(4, label), np.array([0.1, 0.2, 0.7, 0.8])
    drawn = to_resampled_figures(labels, scores, scores > 0.5, np.ones((2, 4)))
    expected = to_figures(labels, scores, scores > 0.5)
    assert {name: draws[1] for name, draws in drawn.items()} == pytest.approx(expected, nan_ok=True)
    undefined = {name for name, value in expected.items() if np.isnan(value)}
    missing = "specificity" if label else "sensitivity"
    of_both = {name for name in NAMES if name.startswith(("precision", "f1"))}
    assert undefined == {"auc", "average_precision", "balanced_accuracy", missing, *of_both}


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "There is nothing to evaluate without images. Received: 0 images."),
        ([0, 1, 1], [0.1, 0.2], "Every image needs one label and one score. Received: 3 labels, 2 scores."),
        ([0, 2], [0.1, 0.2], "A label is 0 (normal) or 1 (pneumonia). Received: 2 for image 1."),
        ([0, 1], [0.1, math.nan], "A score is a probability in [0, 1]. Received: nan for image 1."),
    ],
)
def test_what_is_no_label_or_score_is_an_error(labels, scores, message):
    with pytest.raises(DataError) as error:
        check_scores(np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64))
    assert str(error.value) == message
