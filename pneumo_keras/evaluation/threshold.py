"""Operating points: from which score on a film is called pneumonia.

They are chosen on validation films or out of fold, never on the films that are evaluated: nothing
here can check that, so an operating point says where it was chosen. Thresholds lie midway between
neighbouring scores, so that tiny numerical differences do not flip a film.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.evaluation.intervals import to_json_number
from pneumo_keras.evaluation.metrics import (
    ConfusionCounts,
    count_confusions,
    has_both_classes,
    to_sensitivity,
    to_specificity,
)
from pneumo_keras.evaluation.scores import check_scores

Rule = Literal["fixed", "youden", "sensitivity", "cost"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, how it was chosen, and what it reached on the films it was chosen on.

    Attributes:
        threshold: A film is called pneumonia when its score is above it.
        rule: `fixed`, `youden`, `sensitivity` or `cost`.
        demand: What the rule was given: the sensitivity to reach, or the two costs.
        chosen_on: The films, for instance `val`.
        counts: Those films by label and call.
        sensitivity: Share of their pneumonia films called pneumonia; NaN without any.
        specificity: Share of their normal films called normal; NaN without any.
    """

    threshold: float
    rule: str
    demand: dict[str, float]
    chosen_on: str
    counts: ConfusionCounts
    sensitivity: float
    specificity: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no NaN: None instead."""
        return asdict(self) | {
            "sensitivity": to_json_number(self.sensitivity),
            "specificity": to_json_number(self.specificity),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "OperatingPoint":
        """Back from `to_dict`.

        Raises:
            DataError: The document is no operating point.
            SettingsError: Its threshold is not in [0, 1].
        """
        wanted = sorted(field.name for field in fields(cls))
        try:
            return cls(
                threshold=check_threshold(float(document["threshold"])),
                rule=document["rule"],
                demand=dict(document["demand"]),
                chosen_on=document["chosen_on"],
                counts=ConfusionCounts(**document["counts"]),
                sensitivity=_from_json_number(document["sensitivity"]),
                specificity=_from_json_number(document["specificity"]),
            )
        except (KeyError, TypeError, ValueError):
            raise DataError(f"An operating point holds {', '.join(wanted)}. Received: {document}.") from None


def _from_json_number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def check_threshold(threshold: float) -> float:
    """The threshold, if it is one.

    Raises:
        SettingsError: It is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise SettingsError(f"A threshold is a score in [0, 1]. Received: {threshold}.")
    return threshold


def choose_operating_point(
    labels: Labels,
    scores: Scores,
    *,
    rule: Rule,
    chosen_on: str,
    threshold: float = 0.5,
    sensitivity: float = 0.95,
    cost_fn: float = 1.0,
    cost_fp: float = 1.0,
) -> OperatingPoint:
    """Chooses a threshold by a rule and says what it reaches on the same films.

    Args:
        labels: Of films that are not evaluated later.
        scores: Of the same films.
        rule: `fixed` takes `threshold`; `youden`, `sensitivity` and `cost` are described at
            `choose_youden_threshold`, `choose_sensitive_threshold` and `choose_cheapest_threshold`.
        chosen_on: The films, for the record.
        threshold: For `fixed`.
        sensitivity: For `sensitivity`: the share of pneumonia films to find, in (0, 1].
        cost_fn: For `cost`: what a missed pneumonia costs.
        cost_fp: For `cost`: what a false alarm costs.

    Raises:
        SettingsError: The rule is unknown or its demand out of range.
        DataError: The films cannot meet the demand.
    """
    check_scores(labels, scores)
    demand: dict[str, float] = {}
    match rule:
        case "fixed":
            threshold = check_threshold(threshold)
        case "youden":
            threshold = choose_youden_threshold(labels, scores)
        case "sensitivity":
            demand = {"sensitivity": sensitivity}
            threshold = choose_sensitive_threshold(labels, scores, sensitivity=sensitivity)
        case "cost":
            demand = {"cost_fn": cost_fn, "cost_fp": cost_fp}
            threshold = choose_cheapest_threshold(labels, scores, cost_fn=cost_fn, cost_fp=cost_fp)
        case _:
            raise SettingsError(
                f"A threshold is chosen by one of {', '.join(get_args(Rule))}. Received: {rule}."
            )
    counts = count_confusions(labels, scores, threshold)
    return OperatingPoint(
        threshold, rule, demand, chosen_on, counts, to_sensitivity(counts), to_specificity(counts)
    )


def choose_youden_threshold(labels: Labels, scores: Scores) -> float:
    """The threshold of the largest sensitivity + specificity; of equals the lowest, which misses least.

    References:
        Youden, W. J. (1950). Index for rating diagnostic tests. Cancer 3, 32-35.
    """
    check_both_classes(labels)
    thresholds, tp, fp = to_candidates(labels, scores)
    pneumonia = int(labels.sum())
    # Whole numbers: ties are exact.
    gain = tp * (len(labels) - pneumonia) - fp * pneumonia
    return float(thresholds[np.argmax(gain)])


def choose_sensitive_threshold(labels: Labels, scores: Scores, *, sensitivity: float) -> float:
    """The highest threshold that finds this share of pneumonia films, and so the fewest false alarms.

    Raises:
        SettingsError: The share is not in (0, 1].
        DataError: A class is missing, or too many pneumonia films score 0.
    """
    if not 0 < sensitivity <= 1:
        raise SettingsError(f"The sensitivity to reach is a share in (0, 1]. Received: {sensitivity}.")
    check_both_classes(labels)
    thresholds, tp, _ = to_candidates(labels, scores)
    pneumonia = int(labels.sum())
    reached = np.flatnonzero(tp / pneumonia >= sensitivity)
    if not len(reached):
        raise DataError(
            f"No threshold reaches a sensitivity of {sensitivity}: {pneumonia - tp[0]} of {pneumonia} "
            "pneumonia films score exactly 0. Ask for less."
        )
    return float(thresholds[reached[-1]])


def choose_cheapest_threshold(labels: Labels, scores: Scores, *, cost_fn: float, cost_fp: float) -> float:
    """The threshold of the least cost_fn * fn + cost_fp * fp; of equals the lowest, which misses least.

    The films' own share of pneumonia weighs in: where it differs in use, scale the costs.

    Raises:
        SettingsError: A cost is not positive.
        DataError: A class is missing.

    References:
        Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI, 973-978.
    """
    if not (0 < cost_fn < math.inf and 0 < cost_fp < math.inf):
        raise SettingsError(f"Costs are positive numbers. Received: cost_fn {cost_fn}, cost_fp {cost_fp}.")
    check_both_classes(labels)
    thresholds, tp, fp = to_candidates(labels, scores)
    costs = cost_fn * (labels.sum() - tp) + cost_fp * fp
    # Costs such as 0.1 are inexact, sums of them too: equal up to rounding is equal.
    return float(thresholds[np.flatnonzero(costs <= costs.min() * (1 + 1e-12))[0]])


def check_both_classes(labels: Labels) -> None:
    """Checks that there is something to weigh.

    Raises:
        DataError: A class is missing.
    """
    if not has_both_classes(labels):
        pneumonia = int(labels.sum())
        raise DataError(
            "Choosing a threshold takes normal and pneumonia films. "
            f"Received: {len(labels) - pneumonia} normal, {pneumonia} pneumonia. Take the rule 'fixed'."
        )


def to_candidates(
    labels: Labels, scores: Scores
) -> tuple[Float64[np.ndarray, " k"], Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Every threshold in [0, 1] that calls the films differently, rising, with its tp and fp.

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
