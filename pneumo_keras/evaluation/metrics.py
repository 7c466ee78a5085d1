"""Metrics of a binary classifier. Positive is pneumonia = 1, negative is normal = 0.

An image is predicted to show pneumonia when its score is above the threshold, MedMNIST's rule. Predictions
are passed along with scores, so that scores corrected for another prevalence keep theirs. A metric that is
undefined is NaN: the sensitivity without pneumonia images, for instance.
"""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError

LOG_LOSS_CLIP = 2.0**-24
"""Scores are kept this far from 0 and 1: below 1, float32 scores come no closer than this."""

BINS = 15
"""Of the calibration error and the reliability diagram, of equal width."""

Predicted = Bool[np.ndarray, " n"]
"""Which images are predicted to show pneumonia."""

ResampleWeights = Float64[np.ndarray, "resamples n"]
"""How much each image counts in each resample."""

BootstrapValues = Float64[np.ndarray, " resamples"]
"""One metric of each resample."""

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class ConfusionCounts:
    """Images by prediction (negative is normal, positive pneumonia) and whether it is true."""

    tn: Count
    fp: Count
    fn: Count
    tp: Count

    @property
    def normal(self) -> int:
        """Normal images."""
        return self.tn + self.fp

    @property
    def pneumonia(self) -> int:
        """Pneumonia images."""
        return self.fn + self.tp

    @property
    def n(self) -> int:
        """All images."""
        return self.normal + self.pneumonia


def count_confusions(labels: Labels, scores: Scores, threshold: float) -> ConfusionCounts:
    """Counts images by label and prediction, which is pneumonia when score > threshold."""
    return count_predictions(labels, scores > threshold)


def count_predictions(labels: Labels, predicted: Predicted) -> ConfusionCounts:
    """Counts images by label and prediction."""
    return ConfusionCounts(*np.bincount(2 * labels + predicted, minlength=4).tolist())


def to_accuracy(counts: ConfusionCounts) -> float:
    """Share of images predicted rightly, in [0, 1]."""
    return _to_share(counts.tn + counts.tp, counts.n)


def to_sensitivity(counts: ConfusionCounts) -> float:
    """Share of pneumonia images predicted pneumonia (their recall), in [0, 1]; NaN without any."""
    return _to_share(counts.tp, counts.pneumonia)


def to_specificity(counts: ConfusionCounts) -> float:
    """Share of normal images predicted normal (their recall), in [0, 1]; NaN without any."""
    return _to_share(counts.tn, counts.normal)


def _to_share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def to_prevalence(labels: Labels) -> float:
    """Share of images with pneumonia, in [0, 1]."""
    return float(np.mean(labels))


def find_mistakes(
    labels: Labels, scores: Scores, threshold: float, *, limit: int
) -> tuple[Int64[np.ndarray, " missed"], Int64[np.ndarray, " alarms"]]:
    """Indices of missed pneumonias, lowest score first, and of false alarms, highest score first."""
    predicted = scores > threshold
    lowest_first, highest_first = np.argsort(scores, kind="stable"), np.argsort(-scores, kind="stable")
    missed = lowest_first[((labels == 1) & ~predicted)[lowest_first]]
    alarms = highest_first[((labels == 0) & predicted)[highest_first]]
    return missed[:limit], alarms[:limit]


def has_both_classes(labels: Labels) -> bool:
    """Whether there are normal and pneumonia images."""
    return 0 < int(labels.sum()) < len(labels)


def check_both_classes(labels: Labels, task: str, *, remedy: str = "") -> None:
    """Raises a DataError where a class is missing; `task` begins the message, `remedy` ends it."""
    if not has_both_classes(labels):
        pneumonia = int(labels.sum())
        raise DataError(
            f"{task} takes normal and pneumonia images. "
            f"Received: {len(labels) - pneumonia} normal, {pneumonia} pneumonia.{remedy}"
        )


def check_scores(labels: Int64[np.ndarray, " labels"], scores: Float64[np.ndarray, " scores"]) -> None:
    """Raises a DataError unless there are images, each with one label (0 or 1) and one score in [0, 1]."""
    if len(labels) != len(scores):
        raise DataError(
            "Every image needs one label and one score. "
            f"Received: {len(labels)} labels, {len(scores)} scores."
        )
    if not len(labels):
        raise DataError("There is nothing to evaluate without images. Received: 0 images.")
    for name, values, right in (
        ("A label is 0 (normal) or 1 (pneumonia)", labels, np.isin(labels, (0, 1))),
        ("A score is a probability in [0, 1]", scores, (scores >= 0) & (scores <= 1)),
    ):
        if not right.all():
            image = int(np.argmin(right))
            raise DataError(f"{name}. Received: {values[image]} for image {image}.")


def weigh_images(labels: Labels, prevalence: float | None) -> Float64[np.ndarray, " n"]:
    """Weights that give the images that prevalence; their sum is the number of images.

    Without a prevalence, in (0, 1), all are 1. A DataError for images of one class, which cannot represent
    a population with both.
    """
    if prevalence is None:
        return np.ones(len(labels))
    check_both_classes(labels, "A stated prevalence")
    own = to_prevalence(labels)
    return np.where(labels == 1, prevalence / own, (1 - prevalence) / (1 - own))


def to_figures(
    labels: Labels, scores: Scores, predicted: Predicted, *, prevalence: float | None = None
) -> dict[str, float]:
    """Every metric of the images, by scikit-learn; NaN where undefined.

    With a `prevalence`, scores are probabilities in a population with it, and metrics are of that. Scores
    are clipped to [2**-24, 1 - 2**-24] for the log loss, so one image costs at most 16.6 nats.

    Raises:
        DataError: There are no images, labels or scores are out of range, or a prevalence is stated
            for images of one class.
    """
    # scikit-learn takes seconds to import, and `compare` does not need it.
    from sklearn import metrics

    check_scores(labels, scores)
    weights = weigh_images(labels, prevalence)
    options: dict[str, Any] = {"sample_weight": weights, "zero_division": math.nan}
    recall, precision, f1 = (
        functools.partial(figure, labels, predicted.astype(np.int64), **options)
        for figure in (metrics.recall_score, metrics.precision_score, metrics.f1_score)
    )
    both = has_both_classes(labels)
    auc = average_precision = math.nan
    if both:
        auc = metrics.roc_auc_score(labels, scores, sample_weight=weights)
        average_precision = metrics.average_precision_score(labels, scores, sample_weight=weights)
    clipped = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    figures = {
        "auc": auc,
        "average_precision": average_precision,
        "accuracy": metrics.accuracy_score(labels, predicted, sample_weight=weights),
        "balanced_accuracy": (recall() + recall(pos_label=0)) / 2,
        "sensitivity": recall(),
        "specificity": recall(pos_label=0),
        # Among images of one class every prediction of it is right, whatever predicts.
        "precision_pneumonia": precision() if both else math.nan,
        "precision_normal": precision(pos_label=0) if both else math.nan,
        "f1_pneumonia": f1() if both else math.nan,
        "f1_normal": f1(pos_label=0) if both else math.nan,
        "brier_loss": metrics.brier_score_loss(labels, scores, sample_weight=weights, labels=[0, 1]),
        "log_loss": metrics.log_loss(labels, clipped, sample_weight=weights, labels=[0, 1]),
        "calibration_error": to_calibration_error(labels, scores, prevalence=prevalence),
        "prevalence": np.average(labels, weights=weights),
    }
    return {name: float(value) for name, value in figures.items()}


def to_calibration_error(labels: Labels, scores: Scores, *, prevalence: float | None = None) -> float:
    """Expected calibration error: mean over images of their bin's |mean score - prevalence|.

    In [0, 1], smaller is better. It depends on the bins, and chance alone makes it positive: with
    few images a perfectly calibrated score does not reach 0.

    References:
        Naeini, M. P., Cooper, G. F. & Hauskrecht, M. (2015). Obtaining well calibrated probabilities
        using Bayesian binning. AAAI. For the binary probability, not for the top class's confidence.
    """
    gaps = np.bincount(to_bin_index(scores), weights=weigh_images(labels, prevalence) * (scores - labels))
    return float(np.abs(gaps).sum() / len(labels))


def to_bin_index(scores: Scores) -> Int64[np.ndarray, " n"]:
    """The bin of each score, counted from 0; a score on an edge belongs to the bin below it."""
    return np.digitize(scores, np.linspace(0.0, 1.0, BINS + 1)[1:-1], right=True)


def to_log_losses(labels: Labels, scores: Scores) -> Float64[np.ndarray, " n"]:
    """Log loss of each image, in nats; scores are clipped as in `to_figures`."""
    given = np.where(labels == 1, scores, 1 - scores)
    return -np.log(np.clip(given, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP))


def to_resampled_figures(
    labels: Labels, scores: Scores, predicted: Predicted, weights: ResampleWeights
) -> dict[str, BootstrapValues]:
    """The metrics of `to_figures` for many sets of weights at once, in array operations."""
    total = weights.sum(axis=1)
    members = (to_bin_index(scores)[:, None] == np.arange(BINS)) * (scores - labels)[:, None]
    return {
        **_to_resampled_rankings(labels, scores, weights),
        **_to_resampled_prediction_figures(labels, predicted, weights),
        "brier_loss": weights @ (scores - labels) ** 2 / total,
        "log_loss": weights @ to_log_losses(labels, scores) / total,
        "calibration_error": np.abs(weights @ members).sum(axis=1) / total,
    }


def _to_resampled_rankings(
    labels: Labels, scores: Scores, weights: ResampleWeights
) -> dict[str, BootstrapValues]:
    """AUC and average precision; NaN where a class is missing."""
    if not has_both_classes(labels):
        undefined = np.full(len(weights), np.nan)
        return {"auc": undefined, "average_precision": undefined}
    order = np.argsort(-scores, kind="stable")
    # No threshold separates images of equal score: sums are read at the last of them.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    drawn = weights[:, order]
    found = np.cumsum(drawn * labels[order], axis=1)[:, last]
    alarms = np.cumsum(drawn * (1 - labels[order]), axis=1)[:, last]
    pneumonia, normal = found[:, -1], alarms[:, -1]
    newly_found, new_alarms = np.diff(found, axis=1, prepend=0), np.diff(alarms, axis=1, prepend=0)
    pairs_won = (newly_found * (normal[:, None] - alarms + new_alarms / 2)).sum(axis=1)
    # Where nothing is predicted pneumonia yet, nothing is found: that precision weighs nothing.
    precision = found / np.where(found + alarms, found + alarms, 1)
    return {
        "auc": _divide(pairs_won, pneumonia * normal),
        "average_precision": _divide((newly_found * precision).sum(axis=1), pneumonia),
    }


def _to_resampled_prediction_figures(
    labels: Labels, predicted: Predicted, weights: ResampleWeights
) -> dict[str, BootstrapValues]:
    cells = [(labels == label) & (predicted == positive) for label in (0, 1) for positive in (False, True)]
    tn, fp, fn, tp = (weights @ np.stack(cells, axis=1).astype(np.float64)).T
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


def _divide(part: BootstrapValues, whole: BootstrapValues) -> BootstrapValues:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
