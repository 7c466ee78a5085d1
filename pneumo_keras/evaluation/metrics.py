"""The figures of a binary classifier: positive is pneumonia = 1, negative is normal = 0.

A film is called pneumonia when its score is above the threshold, MedMNIST's rule. A figure that is
undefined is NaN: the sensitivity without pneumonia films, the AUC of one class.
"""

import math
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sklearn_metrics

from pneumo_keras.arrays import Labels, Scores

LOG_LOSS_CLIP = 2.0**-24
"""Scores are kept this far from 0 and 1: below 1, float32 scores come no closer than this."""


@dataclass(frozen=True)
class ConfusionCounts:
    """Films by label and call.

    Attributes:
        tn: Normal films called normal.
        fp: Normal films called pneumonia.
        fn: Pneumonia films called normal.
        tp: Pneumonia films called pneumonia.
    """

    tn: int
    fp: int
    fn: int
    tp: int

    @property
    def n(self) -> int:
        """All films."""
        return self.tn + self.fp + self.fn + self.tp


def count_confusions(labels: Labels, scores: Scores, threshold: float) -> ConfusionCounts:
    """Counts films by label and call, a film being called pneumonia when score > threshold."""
    table = sklearn_metrics.confusion_matrix(labels, scores > threshold, labels=[0, 1])
    return ConfusionCounts(*(int(count) for count in table.ravel()))


def to_share(part: int, whole: int) -> float:
    """`part` of `whole`, in [0, 1]; NaN of nothing."""
    return part / whole if whole else math.nan


def to_accuracy(counts: ConfusionCounts) -> float:
    """Share of films called rightly, in [0, 1]."""
    return to_share(counts.tn + counts.tp, counts.n)


def to_sensitivity(counts: ConfusionCounts) -> float:
    """Share of pneumonia films called pneumonia (their recall), in [0, 1]; NaN without any."""
    return to_share(counts.tp, counts.tp + counts.fn)


def to_specificity(counts: ConfusionCounts) -> float:
    """Share of normal films called normal (their recall), in [0, 1]; NaN without any."""
    return to_share(counts.tn, counts.tn + counts.fp)


def to_balanced_accuracy(counts: ConfusionCounts) -> float:
    """Mean of sensitivity and specificity, in [0, 1]; NaN with one class only."""
    return (to_sensitivity(counts) + to_specificity(counts)) / 2


def to_precision_pneumonia(counts: ConfusionCounts) -> float:
    """Share of pneumonia among films called pneumonia (PPV), in [0, 1]; NaN without such calls."""
    return to_share(counts.tp, counts.tp + counts.fp)


def to_precision_normal(counts: ConfusionCounts) -> float:
    """Share of normal among films called normal (NPV), in [0, 1]; NaN without such calls."""
    return to_share(counts.tn, counts.tn + counts.fn)


def to_f1_pneumonia(counts: ConfusionCounts) -> float:
    """Harmonic mean of precision and recall of pneumonia, in [0, 1]; NaN when neither found nor there."""
    return to_share(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def to_f1_normal(counts: ConfusionCounts) -> float:
    """Harmonic mean of precision and recall of normal, in [0, 1]; NaN when neither found nor there."""
    return to_share(2 * counts.tn, 2 * counts.tn + counts.fp + counts.fn)


def to_prevalence(labels: Labels) -> float:
    """Share of pneumonia among the films, in [0, 1]."""
    return float(np.mean(labels))


def has_both_classes(labels: Labels) -> bool:
    """Whether there are normal and pneumonia films."""
    return 0 < int(labels.sum()) < len(labels)


def to_auc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve, in [0, 1]; NaN with one class only."""
    return float(sklearn_metrics.roc_auc_score(labels, scores)) if has_both_classes(labels) else math.nan


def to_average_precision(labels: Labels, scores: Scores) -> float:
    """Area under the precision-recall curve of pneumonia, by steps; NaN with one class only.

    A score that tells nothing reaches the prevalence, not 0.5.
    """
    if not has_both_classes(labels):
        return math.nan
    return float(sklearn_metrics.average_precision_score(labels, scores))


def to_brier_loss(labels: Labels, scores: Scores) -> float:
    """Mean squared difference between score and label, in [0, 1]."""
    return float(sklearn_metrics.brier_score_loss(labels, scores, labels=[0, 1]))


def to_log_loss(labels: Labels, scores: Scores) -> float:
    """Mean negative logarithm of the probability given to the label, in nats.

    Scores are clipped to [2**-24, 1 - 2**-24], so one film costs at most 16.6 nats.
    """
    clipped = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return float(sklearn_metrics.log_loss(labels, clipped, labels=[0, 1]))
