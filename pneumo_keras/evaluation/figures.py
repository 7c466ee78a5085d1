"""Every figure by its name: of the films themselves, and of many resamples of them at once."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation import metrics
from pneumo_keras.evaluation.metrics import LOG_LOSS_CLIP, has_both_classes
from pneumo_keras.evaluation.reliability import to_bin_members, to_calibration_error
from pneumo_keras.evaluation.scores import check_scores

Resamples = Int64[np.ndarray, "resamples n"]
"""How often each resample holds each film."""

Draws = Float64[np.ndarray, " resamples"]
"""One figure, of each resample."""


def to_figures(labels: Labels, scores: Scores, threshold: float) -> dict[str, float]:
    """Every figure of the films, a film being called pneumonia when score > threshold.

    Raises:
        DataError: There are no films, or labels or scores are out of range.
    """
    check_scores(labels, scores)
    counts = metrics.count_confusions(labels, scores, threshold)
    return {
        "auc": metrics.to_auc(labels, scores),
        "average_precision": metrics.to_average_precision(labels, scores),
        "accuracy": metrics.to_accuracy(counts),
        "balanced_accuracy": metrics.to_balanced_accuracy(counts),
        "sensitivity": metrics.to_sensitivity(counts),
        "specificity": metrics.to_specificity(counts),
        "precision_pneumonia": metrics.to_precision_pneumonia(counts),
        "precision_normal": metrics.to_precision_normal(counts),
        "f1_pneumonia": metrics.to_f1_pneumonia(counts),
        "f1_normal": metrics.to_f1_normal(counts),
        "brier_loss": metrics.to_brier_loss(labels, scores),
        "log_loss": metrics.to_log_loss(labels, scores),
        "calibration_error": to_calibration_error(labels, scores),
        "prevalence": metrics.to_prevalence(labels),
    }


def to_resampled_figures(
    labels: Labels, scores: Scores, threshold: float, resamples: Resamples
) -> dict[str, Draws]:
    """The figures of `to_figures` for every resample, in array operations."""
    return {
        **_to_ranking_figures(labels, scores, resamples),
        **_to_call_figures(labels, scores > threshold, resamples),
        **_to_probability_figures(labels, scores, resamples),
    }


def _to_ranking_figures(labels: Labels, scores: Scores, resamples: Resamples) -> dict[str, Draws]:
    if not has_both_classes(labels):
        undefined = np.full(len(resamples), np.nan)
        return {"auc": undefined, "average_precision": undefined}
    order = np.argsort(-scores, kind="stable")
    # Films of equal score cannot be told apart by any threshold: sums are read at the last of them.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    drawn = resamples[:, order]
    pneumonia = np.cumsum(drawn * labels[order], axis=1)[:, last]
    normal = np.cumsum(drawn, axis=1)[:, last] - pneumonia
    found = np.diff(pneumonia, axis=1, prepend=0)
    alarms = np.diff(normal, axis=1, prepend=0)
    all_pneumonia, all_normal = pneumonia[:, -1], normal[:, -1]
    pairs_won = (found * (all_normal[:, None] - normal + alarms / 2)).sum(axis=1)
    precision = pneumonia / np.maximum(pneumonia + normal, 1)
    return {
        "auc": pairs_won / (all_pneumonia * all_normal),
        "average_precision": (found * precision).sum(axis=1) / all_pneumonia,
    }


def _to_call_figures(labels: Labels, calls: Bool[np.ndarray, " n"], resamples: Resamples) -> dict[str, Draws]:
    kinds = np.stack([(labels == label) & (calls == call) for label in (0, 1) for call in (0, 1)], axis=1)
    tn, fp, fn, tp = (resamples @ kinds.astype(np.float64)).T
    sensitivity, specificity = _divide(tp, tp + fn), _divide(tn, tn + fp)
    return {
        "accuracy": (tn + tp) / (tn + fp + fn + tp),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision_pneumonia": _divide(tp, tp + fp),
        "precision_normal": _divide(tn, tn + fn),
        "f1_pneumonia": _divide(2 * tp, 2 * tp + fp + fn),
        "f1_normal": _divide(2 * tn, 2 * tn + fp + fn),
        "prevalence": (fn + tp) / (tn + fp + fn + tp),
    }


def _to_probability_figures(labels: Labels, scores: Scores, resamples: Resamples) -> dict[str, Draws]:
    given = np.clip(np.where(labels == 1, scores, 1 - scores), LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    losses = np.stack([(scores - labels) ** 2, -np.log(given)], axis=1)
    gaps = to_bin_members(scores) * (scores - labels)[:, None]
    sums = resamples @ np.concatenate([losses, gaps], axis=1)
    brier_loss, log_loss = sums[:, :2].T / len(labels)
    calibration_error = np.abs(sums[:, 2:]).sum(axis=1) / len(labels)
    return {"brier_loss": brier_loss, "log_loss": log_loss, "calibration_error": calibration_error}


def _divide(part: Draws, whole: Draws) -> Draws:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
