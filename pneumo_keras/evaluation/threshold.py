"""Operating points: from which score on an image is called pneumonia.

They are chosen on validation images or out of fold, never on the images that are evaluated: nothing
here can check that, so an operating point says where it was chosen.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from pneumo_keras.arrays import SPLIT_NAMES, Labels, Scores
from pneumo_keras.errors import SettingsError
from pneumo_keras.evaluation.metrics import (
    ConfusionCounts,
    count_confusions,
    to_sensitivity,
    to_specificity,
)
from pneumo_keras.evaluation.rules import RULES
from pneumo_keras.evaluation.scores import check_scores
from pneumo_keras.storage.documents import FloatOrNan

Curve = Float64[np.ndarray, " k"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, how it was chosen, and what it reaches: `operating_point.json`.

    Attributes:
        threshold: An image is called pneumonia when its score is above it.
        rule: A name in `RULES`.
        demand: What the rule was told, by name.
        chosen_on: The images that the rest speaks of, for instance `val`, and on which the rule
            chose, if it is one that asks images.
        counts: Those images by label and call.
        sensitivity: Share of their pneumonia images called pneumonia; NaN without any.
        specificity: Share of their normal images called normal; NaN without any.
    """

    threshold: Annotated[float, Field(ge=0, le=1)]
    rule: str
    demand: dict[str, float]
    chosen_on: str
    counts: ConfusionCounts
    sensitivity: FloatOrNan
    specificity: FloatOrNan

    def __post_init__(self) -> None:
        """Checks that the rule can be put into words, and that figures and counts agree."""
        if self.rule not in RULES:
            raise ValueError(f"'rule' must be one of {', '.join(RULES)}, not {self.rule!r}")
        if set(self.demand) != set(RULES[self.rule].demands):
            demands = ", ".join(RULES[self.rule].demands) or "nothing"
            raise ValueError(f"'demand' of the rule '{self.rule}' must hold {demands}")
        for name, reach in (("sensitivity", to_sensitivity), ("specificity", to_specificity)):
            if not _is_same(getattr(self, name), reach(self.counts)):
                raise ValueError(f"'{name}' must be that of its counts")

    def describe_rule(self) -> str:
        """How the threshold came about, and on which images if images were asked."""
        rule = RULES[self.rule]
        text = rule.description.format(**self.demand)
        images = SPLIT_NAMES.get(self.chosen_on, self.chosen_on)
        return f"{text}, chosen on {images}" if rule.from_images else text


def _is_same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def choose_operating_point(
    labels: Labels, scores: Scores, *, rule: str, chosen_on: str, **demands: float
) -> OperatingPoint:
    """Chooses a threshold by a rule and says what it reaches on the same images.

    Args:
        labels: Of images that are not evaluated later.
        scores: Of the same images.
        rule: A name in `RULES`.
        chosen_on: The images, for the record.
        demands: What rules are to be told; each takes its own.

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
    """Thresholds from 0 to 1 at which calls change, with sensitivity, specificity and accuracy from there on.

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
