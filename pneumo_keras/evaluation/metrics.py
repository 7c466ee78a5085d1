"""Calls of a binary classifier: positive is pneumonia = 1, negative is normal = 0.

An image is called pneumonia when its score is above the threshold, MedMNIST's rule. A figure that is
undefined is NaN: the sensitivity without pneumonia images, for instance.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool
from pydantic import Field

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError

Count = Annotated[int, Field(ge=0)]

Calls = Bool[np.ndarray, " n"]
"""Which images are called pneumonia."""


@dataclass(frozen=True)
class ConfusionCounts:
    """ImageSet by label and call.

    Attributes:
        tn: Normal images called normal.
        fp: Normal images called pneumonia.
        fn: Pneumonia images called normal.
        tp: Pneumonia images called pneumonia.
    """

    tn: Count
    fp: Count
    fn: Count
    tp: Count

    @property
    def n(self) -> int:
        """All images."""
        return self.tn + self.fp + self.fn + self.tp


def count_confusions(labels: Labels, scores: Scores, threshold: float) -> ConfusionCounts:
    """Counts images by label and call, an image being called pneumonia when score > threshold."""
    return count_calls(labels, scores > threshold)


def count_calls(labels: Labels, calls: Calls) -> ConfusionCounts:
    """Counts images by label and call."""
    return ConfusionCounts(*np.bincount(2 * labels + calls, minlength=4).tolist())


def to_share(part: int, whole: int) -> float:
    """`part` of `whole`, in [0, 1]; NaN of nothing."""
    return part / whole if whole else math.nan


def to_accuracy(counts: ConfusionCounts) -> float:
    """Share of images called rightly, in [0, 1]."""
    return to_share(counts.tn + counts.tp, counts.n)


def to_sensitivity(counts: ConfusionCounts) -> float:
    """Share of pneumonia images called pneumonia (their recall), in [0, 1]; NaN without any."""
    return to_share(counts.tp, counts.tp + counts.fn)


def to_specificity(counts: ConfusionCounts) -> float:
    """Share of normal images called normal (their recall), in [0, 1]; NaN without any."""
    return to_share(counts.tn, counts.tn + counts.fp)


def to_prevalence(labels: Labels) -> float:
    """Share of pneumonia among the images, in [0, 1]."""
    return float(np.mean(labels))


def has_both_classes(labels: Labels) -> bool:
    """Whether there are normal and pneumonia images."""
    return 0 < int(labels.sum()) < len(labels)


def check_both_classes(labels: Labels, task: str, *, remedy: str = "") -> None:
    """Checks that there is something to weigh.

    Args:
        labels: Of the images.
        task: What takes both classes, as the message begins.
        remedy: What to do without, as it ends.

    Raises:
        DataError: A class is missing.
    """
    if not has_both_classes(labels):
        pneumonia = int(labels.sum())
        raise DataError(
            f"{task} takes normal and pneumonia images. "
            f"Received: {len(labels) - pneumonia} normal, {pneumonia} pneumonia.{remedy}"
        )
