"""Operating points: from which score on an image is predicted to show pneumonia.

They are chosen on validation images or out of fold, never on the images that are evaluated: nothing
here can check that, so an operating point names the images it was chosen on.

A new rule is a function here and a line in `RULES`. Thresholds are midway between neighbouring scores, so
that tiny numerical differences change no prediction. Imports nothing heavy: settings are checked against
the table.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from pneumo_keras.arrays import SPLIT_NAMES, Labels, Scores
from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.evaluation.metrics import (
    ConfusionCounts,
    check_both_classes,
    check_scores,
    count_confusions,
    to_sensitivity,
    to_specificity,
)
from pneumo_keras.storage.documents import FloatOrNan

TASK, REMEDY = "Choosing a threshold", " Take the rule 'fixed'."

Curve = Float64[np.ndarray, " k"]


@dataclass(frozen=True)
class Rule:
    """A way to choose an operating point.

    Attributes:
        choose: The threshold from labels, scores and the demands, those by keyword.
        demands: Parameters of the rule, with the usual values.
        description: In words, with the demands in braces.
        from_images: Whether labels and scores decide, not the settings alone.
    """

    choose: Callable[..., float]
    demands: Mapping[str, float]
    description: str
    from_images: bool = True


def take_threshold(labels: Labels, scores: Scores, *, threshold: float) -> float:
    """The threshold as it is given, whatever the images; a SettingsError where it is not in [0, 1]."""
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
    """The highest threshold that reaches a sensitivity, and so gives the fewest false alarms.

    Raises:
        SettingsError: The sensitivity is not in (0, 1].
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

    The images' own prevalence weighs in: where it differs in use, scale the costs.

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
) -> tuple[Curve, Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Every threshold in [0, 1] that gives other predictions, rising, with its tp and fp.

    Midway between neighbouring scores; below the lowest midway to 0, above the highest midway to 1.
    """
    distinct = np.unique(scores)
    middles = distinct[:-1] + np.diff(distinct) / 2
    # Between neighbours of the float grid the middle rounds; it must not reach the upper one.
    middles = np.where(middles < distinct[1:], middles, distinct[:-1])
    lowest = distinct[:1] / 2 if distinct[0] > 0 else distinct[:0]
    thresholds = np.concatenate([lowest, middles, (distinct[-1:] + 1) / 2])
    normal, pneumonia = (np.sort(scores[labels == label]) for label in (0, 1))
    tp, fp = (len(own) - np.searchsorted(own, thresholds, "right") for own in (pneumonia, normal))
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


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, how it was chosen, and what it reaches: `operating_point.json`.

    Attributes:
        threshold: An image is predicted to show pneumonia when its score is above it.
        rule: A name in `RULES`.
        demand: Parameters of the rule, by name.
        chosen_on: The split, for instance `val`, on which the numbers below are measured, and on which the
            rule chose if it needs images.
        counts: Counts of those images by label and prediction.
        sensitivity: Sensitivity on those images; NaN without any of pneumonia.
        specificity: Specificity on those images; NaN without any normal one.
    """

    threshold: Annotated[float, Field(ge=0, le=1)]
    rule: str
    demand: dict[str, float]
    chosen_on: str
    counts: ConfusionCounts
    sensitivity: FloatOrNan
    specificity: FloatOrNan

    def __post_init__(self) -> None:
        """Checks that the rule can be put into words, and that metrics and counts agree."""
        if self.rule not in RULES:
            raise ValueError(f"'rule' must be one of {', '.join(RULES)}, not {self.rule!r}")
        if set(self.demand) != set(RULES[self.rule].demands):
            demands = ", ".join(RULES[self.rule].demands) or "nothing"
            raise ValueError(f"'demand' of the rule '{self.rule}' must have {demands}")
        for name, reach in (("sensitivity", to_sensitivity), ("specificity", to_specificity)):
            if not np.array_equal(getattr(self, name), reach(self.counts), equal_nan=True):
                raise ValueError(f"'{name}' must be that of its counts")

    def describe_rule(self) -> str:
        """How the threshold was chosen, and on which images if the rule needs images."""
        rule = RULES[self.rule]
        text = rule.description.format(**self.demand)
        images = SPLIT_NAMES.get(self.chosen_on, self.chosen_on)
        return f"{text}, chosen on {images}" if rule.from_images else text


def choose_operating_point(
    labels: Labels, scores: Scores, *, rule: str, chosen_on: str, **demands: float
) -> OperatingPoint:
    """Chooses a threshold by a rule of `RULES`, on images that are not evaluated later.

    `demands` are those of all rules, of which each takes its own. The rest of the point is measured there.

    Raises:
        SettingsError: The rule is unknown or its demand out of range.
        DataError: The images cannot meet the demand.
    """
    check_scores(labels, scores)
    if rule not in RULES:
        raise SettingsError(f"A threshold is chosen by one of {', '.join(RULES)}. Received: {rule}.")
    demand = {name: demands.get(name, usual) for name, usual in RULES[rule].demands.items()}
    threshold = RULES[rule].choose(labels, scores, **demand)
    counts = count_confusions(labels, scores, threshold)
    return OperatingPoint(
        threshold, rule, demand, chosen_on, counts, to_sensitivity(counts), to_specificity(counts)
    )


def to_threshold_curves(labels: Labels, scores: Scores) -> tuple[Curve, Curve, Curve, Curve]:
    """Thresholds at which predictions change, and sensitivity, specificity and accuracy from there on.

    NaN where a class has no images.
    """
    thresholds = np.unique([0.0, *scores, 1.0])
    tn, fn = (np.searchsorted(np.sort(scores[labels == label]), thresholds, side="right") for label in (0, 1))
    normal, pneumonia = np.count_nonzero(labels == 0), np.count_nonzero(labels == 1)
    return (
        thresholds,
        (pneumonia - fn) / (pneumonia or np.nan),
        tn / (normal or np.nan),
        (tn + pneumonia - fn) / len(labels),
    )
