import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pneumo_keras.errors import DataError
from pneumo_keras.evaluation.bootstrap import draw_resamples
from pneumo_keras.evaluation.figures import LOG_LOSS_CLIP, to_figures, to_resampled_figures
from pneumo_keras.evaluation.prevalence import weigh_images

NAMES = [
    "auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision_pneumonia",
    "precision_normal",
    "f1_pneumonia",
    "f1_normal",
    "brier_loss",
    "log_loss",
    "calibration_error",
    "prevalence",
]


def test_every_figure_has_its_name(draw_images):
    labels, scores = draw_images()
    resamples = np.ones((1, len(labels)), dtype=np.int64)
    assert list(to_figures(labels, scores, scores > 0.5)) == NAMES
    assert sorted(to_resampled_figures(labels, scores, scores > 0.5, resamples)) == sorted(NAMES)


def test_calls_of_the_reference_protocol():
    """tn 131, fp 103, fn 22, tp 368 on the test split."""
    labels = np.repeat([0, 0, 1, 1], [131, 103, 22, 368])
    scores = np.repeat([0.2, 0.8, 0.2, 0.8], [131, 103, 22, 368])
    figures = to_figures(labels, scores, scores > 0.5)
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


def test_a_sure_and_wrong_image_costs_at_most_24_bits():
    labels, scores = np.array([1, 0]), np.array([0.0, 1.0])
    assert to_figures(labels, scores, scores > 0.5)["log_loss"] == pytest.approx(24 * np.log(2))


def test_finding_nothing_that_is_there_has_f1_zero():
    labels, scores = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])
    assert to_figures(labels, scores, scores > 0.5)["f1_pneumonia"] == 0.0


def test_figures_at_a_stated_prevalence_by_hand():
    # Sensitivity 0.9 and specificity 0.8, in a population of which 10 % have pneumonia: of 1,000 images
    # 90 are found, 10 missed, 180 are false alarms and 720 rightly normal.
    labels, calls = np.repeat([1, 0], [20, 10]), np.repeat([True, False, True, False], [18, 2, 2, 8])
    figures = to_figures(labels, calls * 0.6 + 0.2, calls, prevalence=0.1)
    assert figures["precision_pneumonia"] == pytest.approx(90 / 270)
    assert figures["precision_normal"] == pytest.approx(720 / 730)
    assert figures["accuracy"] == pytest.approx(0.81)
    assert figures["f1_pneumonia"] == pytest.approx(180 / 370)
    assert figures["prevalence"] == pytest.approx(0.1)
    assert figures["brier_loss"] == pytest.approx(0.81 * 0.04 + 0.19 * 0.64)
    plain = to_figures(labels, calls * 0.6 + 0.2, calls)
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
    (resamples,) = draw_resamples(labels, 25, seed=0)
    calls = scores > 0.4
    drawn = to_resampled_figures(labels, scores, calls, resamples, prevalence=prevalence)
    for row, counts in enumerate(resamples):
        images = (np.repeat(values, counts) for values in (labels, scores, calls))
        expected = to_figures(*images, prevalence=prevalence)
        assert {name: drawn[name][row] for name in NAMES} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prevalence", [None, 0.05])
def test_a_resample_agrees_with_scikit_learns_weights(draw_images, prevalence):
    labels, scores = draw_images(auc=0.8, digits=2)
    (resamples,) = draw_resamples(labels, 5, seed=0)
    clipped, calls = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP), scores > 0.5
    drawn = to_resampled_figures(labels, scores, calls, resamples, prevalence=prevalence)
    for row, counts in enumerate(resamples):
        weight = counts * weigh_images(labels, prevalence)
        expected = {
            "auc": sklearn_metrics.roc_auc_score(labels, scores, sample_weight=weight),
            "average_precision": sklearn_metrics.average_precision_score(
                labels, scores, sample_weight=weight
            ),
            "accuracy": sklearn_metrics.accuracy_score(labels, calls, sample_weight=weight),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, calls, sample_weight=weight),
            "precision_pneumonia": sklearn_metrics.precision_score(labels, calls, sample_weight=weight),
            "precision_normal": sklearn_metrics.precision_score(
                labels, calls, pos_label=0, sample_weight=weight
            ),
            "f1_pneumonia": sklearn_metrics.f1_score(labels, calls, sample_weight=weight),
            "f1_normal": sklearn_metrics.f1_score(labels, calls, pos_label=0, sample_weight=weight),
            "brier_loss": sklearn_metrics.brier_score_loss(labels, scores, sample_weight=weight),
            "log_loss": sklearn_metrics.log_loss(labels, clipped, sample_weight=weight),
        }
        assert {name: drawn[name][row] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_the_rest_defined(label):
    labels, scores = np.full(4, label), np.array([0.1, 0.2, 0.7, 0.8])
    drawn = to_resampled_figures(labels, scores, scores > 0.5, np.ones((2, 4), dtype=np.int64))
    expected = to_figures(labels, scores, scores > 0.5)
    assert {name: draws[1] for name, draws in drawn.items()} == pytest.approx(expected, nan_ok=True)
    undefined = {name for name, value in expected.items() if np.isnan(value)}
    missing = "specificity" if label else "sensitivity"
    of_both = {name for name in NAMES if name.startswith(("precision", "f1"))}
    assert undefined == {"auc", "average_precision", "balanced_accuracy", missing, *of_both}


def test_no_images_are_an_error():
    with pytest.raises(DataError) as error:
        to_figures(np.array([], dtype=np.int64), np.array([]), np.array([], dtype=bool))
    assert str(error.value) == "There is nothing to evaluate without images. Received: 0 images."
