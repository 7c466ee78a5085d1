"""The same figure of several members: how much of it is the luck of a seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pneumo_keras.storage.documents import FloatOrNan


@dataclass(frozen=True)
class MemberSpread:
    """One figure of every member.

    Attributes:
        mean: Of one member; the average of all members has a figure of its own.
        deviation: Standard deviation over members, n - 1 in the denominator; NaN for one member.
        values: In the order of the members.
    """

    mean: FloatOrNan
    deviation: FloatOrNan
    values: tuple[FloatOrNan, ...]


def to_member_spread(values: Sequence[float]) -> MemberSpread:
    """Mean and deviation of one figure of every member."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return MemberSpread(float(np.mean(values)), deviation, tuple(values))


def to_member_spreads(members: Sequence[Mapping[str, float]]) -> dict[str, MemberSpread]:
    """By the name of the figure, from the figures of each member."""
    return {name: to_member_spread([figures[name] for figures in members]) for name in members[0]}
