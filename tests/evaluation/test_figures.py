import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pneumo_keras.errors import DataError
from pneumo_keras.evaluation.bootstrap import draw_resamples
from pneumo_keras.evaluation.figures import to_figures, to_resampled_figures
from pneumo_keras.evaluation.metrics import LOG_LOSS_CLIP

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


def test_every_figure_has_its_name(draw_films):
    labels, scores = draw_films()
    resamples = np.ones((1, len(labels)), dtype=np.int64)
    assert list(to_figures(labels, scores, 0.5)) == NAMES
    assert sorted(to_resampled_figures(labels, scores, 0.5, resamples)) == sorted(NAMES)


@pytest.mark.parametrize("digits", [None, 1])
def test_a_resample_is_its_films_repeated(draw_films, digits):
    labels, scores = draw_films(normal=20, pneumonia=30, auc=0.8, digits=digits)
    (resamples,) = draw_resamples(labels, 25, seed=0)
    drawn = to_resampled_figures(labels, scores, 0.4, resamples)
    for row, counts in enumerate(resamples):
        expected = to_figures(np.repeat(labels, counts), np.repeat(scores, counts), 0.4)
        assert {name: drawn[name][row] for name in NAMES} == pytest.approx(expected, abs=1e-12)


def test_a_resample_agrees_with_scikit_learns_weights(draw_films):
    labels, scores = draw_films(auc=0.8, digits=2)
    (resamples,) = draw_resamples(labels, 5, seed=0)
    drawn = to_resampled_figures(labels, scores, 0.5, resamples)
    clipped, calls = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP), scores > 0.5
    for row, weight in enumerate(resamples):
        expected = {
            "auc": sklearn_metrics.roc_auc_score(labels, scores, sample_weight=weight),
            "average_precision": sklearn_metrics.average_precision_score(
                labels, scores, sample_weight=weight
            ),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, calls, sample_weight=weight),
            "f1_pneumonia": sklearn_metrics.f1_score(labels, calls, sample_weight=weight),
            "f1_normal": sklearn_metrics.f1_score(labels, calls, pos_label=0, sample_weight=weight),
            "brier_loss": sklearn_metrics.brier_score_loss(labels, scores, sample_weight=weight),
            "log_loss": sklearn_metrics.log_loss(labels, clipped, sample_weight=weight),
        }
        assert {name: drawn[name][row] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_the_rest_defined(label):
    labels, scores = np.full(4, label), np.array([0.1, 0.2, 0.7, 0.8])
    drawn = to_resampled_figures(labels, scores, 0.5, np.ones((2, 4), dtype=np.int64))
    expected = to_figures(labels, scores, 0.5)
    assert {name: draws[1] for name, draws in drawn.items()} == pytest.approx(expected, nan_ok=True)
    undefined = {name for name, value in expected.items() if np.isnan(value)}
    missing = "specificity" if label else "sensitivity"
    assert undefined == {"auc", "average_precision", "balanced_accuracy", missing}


def test_no_films_are_an_error():
    with pytest.raises(DataError) as error:
        to_figures(np.array([], dtype=np.int64), np.array([]), 0.5)
    assert str(error.value) == "There is nothing to evaluate without films. Received: 0 films."
