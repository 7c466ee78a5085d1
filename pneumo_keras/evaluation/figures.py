"""Every figure by its name: of the images themselves, and of many resamples of them at once.

An image called rightly and an image scored rightly are different things: calls come beside scores, so
that scores that were corrected for another share of pneumonia keep their calls.
"""

import functools
import math

import numpy as np
from jaxtyping import Float64, Int64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.metrics import Calls, has_both_classes
from pneumo_keras.evaluation.prevalence import weigh_images
from pneumo_keras.evaluation.reliability import to_bin_members, to_calibration_error
from pneumo_keras.evaluation.scores import check_scores

LOG_LOSS_CLIP = 2.0**-24
"""Scores are kept this far from 0 and 1: below 1, float32 scores come no closer than this."""

Resamples = Int64[np.ndarray, "resamples n"] | Float64[np.ndarray, "resamples n"]
"""How often each resample holds each image; as much as each counts where patients are drawn."""

Weights = Float64[np.ndarray, " n"]
"""How much each image counts."""

Draws = Float64[np.ndarray, " resamples"]
"""One figure, of each resample."""

BinGaps = Float64[np.ndarray, "resamples bins"]
"""Sum of score less label over the images of a bin, as a share of all images: a calibration error, signed."""


def to_figures(
    labels: Labels, scores: Scores, calls: Calls, *, prevalence: float | None = None
) -> dict[str, float]:
    """Every figure of the images, by scikit-learn; NaN where undefined.

    Scores are clipped to [2**-24, 1 - 2**-24] for the log loss, so one image costs at most 16.6 nats.

    Args:
        labels: 0 (normal) or 1 (pneumonia).
        scores: Probabilities of pneumonia, where `prevalence` is given in a population with it.
        calls: Which images are called pneumonia.
        prevalence: Share of pneumonia that the figures are to speak of; None for the images' own.

    Raises:
        DataError: There are no images, labels or scores are out of range, or a prevalence is stated
            for images of one class.
    """
    # scikit-learn takes seconds to import, and `compare` does without.
    from sklearn import metrics as sklearn_metrics

    check_scores(labels, scores)
    weights = weigh_images(labels, prevalence)
    evaluated = (labels, calls.astype(np.int64))
    options = {"sample_weight": weights, "zero_division": math.nan}
    recall, precision, f1 = (
        functools.partial(figure, *evaluated, **options)
        for figure in (
            sklearn_metrics.recall_score,
            sklearn_metrics.precision_score,
            sklearn_metrics.f1_score,
        )
    )
    both = has_both_classes(labels)
    auc = average_precision = math.nan
    if both:
        auc = sklearn_metrics.roc_auc_score(labels, scores, sample_weight=weights)
        average_precision = sklearn_metrics.average_precision_score(labels, scores, sample_weight=weights)
    clipped = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    figures = {
        "auc": auc,
        "average_precision": average_precision,
        "accuracy": sklearn_metrics.accuracy_score(*evaluated, sample_weight=weights),
        "balanced_accuracy": (recall() + recall(pos_label=0)) / 2,
        "sensitivity": recall(),
        "specificity": recall(pos_label=0),
        # Among images of one class every call of it is right, whoever calls.
        "precision_pneumonia": precision() if both else math.nan,
        "precision_normal": precision(pos_label=0) if both else math.nan,
        "f1_pneumonia": f1() if both else math.nan,
        "f1_normal": f1(pos_label=0) if both else math.nan,
        "brier_loss": sklearn_metrics.brier_score_loss(labels, scores, sample_weight=weights, labels=[0, 1]),
        "log_loss": sklearn_metrics.log_loss(labels, clipped, sample_weight=weights, labels=[0, 1]),
        "calibration_error": to_calibration_error(labels, scores, prevalence=prevalence),
        "prevalence": np.average(labels, weights=weights),
    }
    return {name: float(value) for name, value in figures.items()}


def to_resampled_figures(
    labels: Labels,
    scores: Scores,
    calls: Calls,
    resamples: Resamples,
    *,
    prevalence: float | None = None,
) -> dict[str, Draws]:
    """The figures of `to_figures` for every resample, in array operations.

    Resamples hold as many images of each class as there are, so that images keep their weights.
    """
    weights = weigh_images(labels, prevalence)
    return {
        **to_resampled_rankings(labels, scores, weights, resamples),
        **to_resampled_calls(labels, calls, weights, resamples),
        **_to_probability_figures(labels, scores, weights, resamples),
    }


def to_resampled_rankings(
    labels: Labels, scores: Scores, weights: Weights, resamples: Resamples
) -> dict[str, Draws]:
    """AUC and average precision of every resample; NaN where a class is missing."""
    if not has_both_classes(labels):
        undefined = np.full(len(resamples), np.nan)
        return {"auc": undefined, "average_precision": undefined}
    order = np.argsort(-scores, kind="stable")
    # Images of equal score cannot be told apart by any threshold: sums are read at the last of them.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    drawn = resamples[:, order]
    pneumonia = np.cumsum(drawn * labels[order], axis=1)[:, last]
    normal = np.cumsum(drawn, axis=1)[:, last] - pneumonia
    found = np.diff(pneumonia, axis=1, prepend=0)
    alarms = np.diff(normal, axis=1, prepend=0)
    all_pneumonia, all_normal = pneumonia[:, -1], normal[:, -1]
    pairs_won = (found * (all_normal[:, None] - normal + alarms / 2)).sum(axis=1)
    false_weight = weights[labels == 0][0] / weights[labels == 1][0]
    # Nothing called is nothing found: its precision weighs nothing.
    precision = pneumonia / np.where(pneumonia + normal, pneumonia + false_weight * normal, 1)
    return {
        "auc": pairs_won / (all_pneumonia * all_normal),
        "average_precision": (found * precision).sum(axis=1) / all_pneumonia,
    }


def to_resampled_calls(
    labels: Labels, calls: Calls, weights: Weights, resamples: Resamples
) -> dict[str, Draws]:
    """The figures that depend on calls, of every resample; NaN where undefined."""
    kinds = np.stack([(labels == label) & (calls == call) for label in (0, 1) for call in (0, 1)], axis=1)
    tn, fp, fn, tp = (resamples @ (kinds * weights[:, None])).T
    sensitivity, specificity = _divide(tp, tp + fn), _divide(tn, tn + fp)
    both = 1.0 if has_both_classes(labels) else math.nan
    return {
        "accuracy": (tn + tp) / (tn + fp + fn + tp),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision_pneumonia": both * _divide(tp, tp + fp),
        "precision_normal": both * _divide(tn, tn + fn),
        "f1_pneumonia": both * _divide(2 * tp, 2 * tp + fp + fn),
        "f1_normal": both * _divide(2 * tn, 2 * tn + fp + fn),
        "prevalence": (fn + tp) / (tn + fp + fn + tp),
    }


def _to_probability_figures(
    labels: Labels, scores: Scores, weights: Weights, resamples: Resamples
) -> dict[str, Draws]:
    losses = to_image_losses(labels, scores)
    means = resamples @ (np.stack(list(losses.values()), axis=1) * weights[:, None]) / len(labels)
    gaps = to_resampled_gaps(labels, scores, weights, resamples)
    return {**dict(zip(losses, means.T, strict=True)), "calibration_error": np.abs(gaps).sum(axis=1)}


def to_image_losses(labels: Labels, scores: Scores) -> dict[str, Float64[np.ndarray, " n"]]:
    """What each image adds to the losses that are means over images."""
    given = np.clip(np.where(labels == 1, scores, 1 - scores), LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return {"brier_loss": (scores - labels) ** 2, "log_loss": -np.log(given)}


def to_resampled_gaps(labels: Labels, scores: Scores, weights: Weights, resamples: Resamples) -> BinGaps:
    """What each bin adds to the calibration error of every resample, if it is positive: with its sign."""
    return resamples @ (to_bin_members(scores) * (weights * (scores - labels))[:, None]) / len(labels)


def _divide(part: Draws, whole: Draws) -> Draws:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
