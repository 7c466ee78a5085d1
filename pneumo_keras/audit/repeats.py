"""Images that stand more than once, byte by byte."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pneumo_keras.audit.traces import Place, Traces


@dataclass(frozen=True)
class Identical:
    """Byte-identical images of the same height and width.

    Attributes:
        groups: Two or more places of the same image; those with both labels first, then those in
            several splits.
        repeats: By split, the images beyond the first of their group inside the split. An image that
            stands three times counts two.
        shared: By pair of splits, the distinct images that stand in both, however often.
        conflicts: Groups with both labels.
    """

    groups: list[list[Place]]
    repeats: dict[str, int]
    shared: dict[str, int]
    conflicts: int


def find_identical(splits: Sequence[Traces]) -> Identical:
    """Groups the images of all splits by their digests."""
    places: dict[int, list[Place]] = defaultdict(list)
    for part in splits:
        for index, digest in enumerate(part.digests.tolist()):
            places[digest].append(part.to_place(index))
    groups = [group for group in places.values() if len(group) > 1]
    groups.sort(key=lambda group: (-_count_labels(group), -len({place.split for place in group})))
    distinct = {part.split: set(part.digests.tolist()) for part in splits}
    return Identical(
        groups=groups,
        repeats={part.split: len(part.digests) - len(distinct[part.split]) for part in splits},
        shared={
            name_pair(first, second): len(distinct[first] & distinct[second])
            for first, second in combinations(distinct, 2)
        },
        conflicts=sum(_count_labels(group) > 1 for group in groups),
    )


def name_pair(first: str, second: str) -> str:
    """Of two splits, as the counts are keyed."""
    return f"{first}/{second}"


def _count_labels(group: Sequence[Place]) -> int:
    return len({place.label for place in group})
