"""The same figure of several members: how much of it is the luck of a seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pneumo_keras.evaluation.intervals import to_json_number


@dataclass(frozen=True)
class Spread:
    """One figure of every member.

    Attributes:
        values: In the order of the members.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of one member; the average of all members has a figure of its own."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation over members, n - 1 in the denominator; NaN for one member."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """For JSON; None for NaN."""
        return {
            "mean": to_json_number(self.mean),
            "deviation": to_json_number(self.deviation),
            "values": [to_json_number(value) for value in self.values],
        }


def to_spreads(members: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """By the name of the figure, from the figures of each member."""
    return {name: Spread(tuple(figures[name] for figures in members)) for name in members[0]}
