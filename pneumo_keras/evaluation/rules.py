"""The rules by which an operating point is chosen: a new one is a function here and a line in `RULES`.

Thresholds lie midway between neighbouring scores, so that tiny numerical differences do not flip a
image. Imports nothing heavy: settings are checked against the table.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.evaluation.metrics import check_both_classes

TASK, REMEDY = "Choosing a threshold", " Take the rule 'fixed'."


@dataclass(frozen=True)
class Rule:
    """A way to an operating point.

    Attributes:
        choose: The threshold from labels, scores and the demands, those by keyword.
        demands: What the rule is to be told, with the value that stands unless another is given.
        description: For people, the demands in braces.
        from_images: Whether labels and scores decide, not the settings alone.
    """

    choose: Callable[..., float]
    demands: Mapping[str, float]
    description: str
    from_images: bool = True


def take_threshold(labels: Labels, scores: Scores, *, threshold: float) -> float:
    """The threshold as it is given, whatever the images.

    Raises:
        SettingsError: It is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise SettingsError(f"A threshold is a score in [0, 1]. Received: {threshold}.")
    return threshold


def choose_youden_threshold(labels: Labels, scores: Scores) -> float:
    """The threshold of the largest sensitivity + specificity; of equals the lowest, which misses least.

    Raises:
        DataError: A class is missing.

    References:
        Youden, W. J. (1950). Index for rating diagnostic tests. Cancer 3, 32-35.
    """
    check_both_classes(labels, TASK, remedy=REMEDY)
    thresholds, tp, fp = to_candidates(labels, scores)
    pneumonia = int(labels.sum())
    # Whole numbers: ties are exact.
    gain = tp * (len(labels) - pneumonia) - fp * pneumonia
    return float(thresholds[np.argmax(gain)])


def choose_sensitive_threshold(labels: Labels, scores: Scores, *, sensitivity: float) -> float:
    """The highest threshold that finds this share of pneumonia images, and so the fewest false alarms.

    Raises:
        SettingsError: The share is not in (0, 1].
        DataError: A class is missing, or too many pneumonia images score 0.
    """
    if not 0 < sensitivity <= 1:
        raise SettingsError(f"The sensitivity to reach is a share in (0, 1]. Received: {sensitivity}.")
    check_both_classes(labels, TASK, remedy=REMEDY)
    thresholds, tp, _ = to_candidates(labels, scores)
    pneumonia = int(labels.sum())
    reached = np.flatnonzero(tp / pneumonia >= sensitivity)
    if not len(reached):
        raise DataError(
            f"No threshold reaches a sensitivity of {sensitivity}: {pneumonia - tp[0]} of {pneumonia} "
            "pneumonia images score exactly 0. Ask for less."
        )
    return float(thresholds[reached[-1]])


def choose_cheapest_threshold(labels: Labels, scores: Scores, *, cost_fn: float, cost_fp: float) -> float:
    """The threshold of the least cost_fn * fn + cost_fp * fp; of equals the lowest, which misses least.

    The images' own share of pneumonia weighs in: where it differs in use, scale the costs.

    Raises:
        SettingsError: A cost is not positive.
        DataError: A class is missing.

    References:
        Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI, 973-978.
    """
    if not (0 < cost_fn < math.inf and 0 < cost_fp < math.inf):
        raise SettingsError(f"Costs are positive numbers. Received: cost_fn {cost_fn}, cost_fp {cost_fp}.")
    check_both_classes(labels, TASK, remedy=REMEDY)
    thresholds, tp, fp = to_candidates(labels, scores)
    costs = cost_fn * (labels.sum() - tp) + cost_fp * fp
    # Costs such as 0.1 are inexact, sums of them too: equal up to rounding is equal.
    return float(thresholds[np.flatnonzero(costs <= costs.min() * (1 + 1e-12))[0]])


def to_candidates(
    labels: Labels, scores: Scores
) -> tuple[Float64[np.ndarray, " k"], Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Every threshold in [0, 1] that calls the images differently, rising, with its tp and fp.

    Midway between neighbouring scores; below the lowest midway to 0, above the highest midway to 1.
    """
    distinct = np.unique(scores)
    middles = distinct[:-1] + np.diff(distinct) / 2
    # Between neighbours of the float grid the middle rounds; it must not reach the upper one.
    middles = np.where(middles < distinct[1:], middles, distinct[:-1])
    lowest = distinct[:1] / 2 if distinct[0] > 0 else distinct[:0]
    thresholds = np.concatenate([lowest, middles, (distinct[-1:] + 1) / 2])
    tp, fp = (
        np.count_nonzero(labels == label)
        - np.searchsorted(np.sort(scores[labels == label]), thresholds, "right")
        for label in (1, 0)
    )
    return thresholds, tp, fp


RULES: dict[str, Rule] = {
    "fixed": Rule(take_threshold, {"threshold": 0.5}, "given in the settings", from_images=False),
    "youden": Rule(choose_youden_threshold, {}, "the largest sum of sensitivity and specificity (Youden)"),
    "sensitivity": Rule(
        choose_sensitive_threshold,
        {"sensitivity": 0.95},
        "the highest that reaches a sensitivity of {sensitivity:g}",
    ),
    "cost": Rule(
        choose_cheapest_threshold,
        {"cost_fn": 1.0, "cost_fp": 1.0},
        "the least cost, a missed pneumonia counted {cost_fn:g} and a false alarm {cost_fp:g}",
    ),
}
