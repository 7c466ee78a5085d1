"""Images that are almost equal but not identical: altered copies, or one patient twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
from jaxtyping import Bool, Float32, Int64

from pneumo_keras.audit.repeats import name_pair
from pneumo_keras.audit.traces import Place, Traces
from pneumo_keras.runtime.progress import Progress, show_progress

# Chosen on PneumoniaMNIST at 28 px, by eye and by altering its images. Its closest images that are not
# identical reach 0.90 and are plainly different children; phantoms reach 0.95, one pair in 12 million
# 0.9602. At least 99 % of copies stay above the threshold when saved as JPEG of quality 75, brightened
# or darkened (gamma 0.6 to 1.6), turned by 1 degree, zoomed by 2 % or moved by a quarter of a pixel.
# Moved by half a pixel, turned by 2 degrees or saved at quality 50 most fall below it and are missed.
SIMILARITY = 0.96

TILE = 1024  # images a side of one matrix product: 4 MB
PAIRS_KEPT = 10_000

Scores = Float32[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class Pair:
    """Two images that are not identical, with their similarity in [-1, 1] to four decimals."""

    first: Place
    second: Place
    similarity: float
    mirrored: bool


@dataclass(frozen=True)
class Alike:
    """Pairs of images that are almost equal but not identical.

    Attributes:
        similarity: Pairs count from here on.
        height: At which images were compared, in pixels.
        width: At which images were compared, in pixels.
        counts: Pairs, by pair of splits; a split is paired with itself, too.
        conflicts: Pairs with different labels.
        closest: The most similar pair, by pair of splits, also below `similarity`.
        pairs: The most similar first, no more than 10,000.
    """

    similarity: float
    height: int
    width: int
    counts: dict[str, int]
    conflicts: int
    closest: dict[str, Pair]
    pairs: list[Pair]


def find_alike(splits: Sequence[Traces], similarity: float) -> Alike:
    """Compares every image with every other one, as it is and mirrored.

    Args:
        splits: Whose images are compared.
        similarity: From here on two images count as almost equal, in (0, 1].
    """
    counts: dict[str, int] = {}
    closest: dict[str, Pair] = {}
    pairs: list[Pair] = []
    conflicts = 0
    n = sum(len(part.labels) for part in splits)
    with show_progress("Comparing images", n * (n - 1) // 2, "pairs", scale=True) as progress:
        for first, second in combinations_with_replacement(splits, 2):
            name = name_pair(first.split, second.split)
            counts[name], differing, found = _compare(first, second, similarity, progress)
            conflicts += differing
            if found:
                closest[name] = found[0]
            pairs = _keep_most_similar([*pairs, *(pair for pair in found if pair.similarity >= similarity)])
    _, height, width = splits[0].details.shape
    return Alike(similarity, height, width, counts, conflicts, closest, pairs)


def _compare(
    first: Traces, second: Traces, similarity: float, progress: Progress
) -> tuple[int, int, list[Pair]]:
    """Pairs that are alike, those of them with different labels, and the most similar pairs of all."""
    count = conflicts = 0
    found: list[Pair] = []
    for i, j in product(range(0, len(first.labels), TILE), range(0, len(second.labels), TILE)):
        if first is second and j < i:
            continue
        scores, mirrored = _score_tile(first, second, i, j)
        progress.advance(int(np.isfinite(scores).sum()))
        alike = scores >= similarity
        count += int(alike.sum())
        conflicts += int(alike[first.labels[i : i + TILE, None] != second.labels[j : j + TILE]].sum())
        for row, column in _find_most_similar(scores, similarity).tolist():
            score, flipped = round(float(scores[row, column]), 4), bool(mirrored[row, column])
            found.append(Pair(first.to_place(i + row), second.to_place(j + column), score, flipped))
        found = _keep_most_similar(found)
    return count, conflicts, found


def _score_tile(
    first: Traces, second: Traces, i: int, j: int
) -> tuple[Scores, Bool[np.ndarray, "rows columns"]]:
    """Similarity of each pair of a tile, and whether it is that of the mirrored image.

    Pairs of identical images, of an image with itself and those that come twice are -inf.
    """
    rows, columns = slice(i, i + TILE), slice(j, j + TILE)
    left, right = first.details[rows], second.details[columns]
    plain, flipped = (np.tensordot(images, right, ((1, 2), (1, 2))) for images in (left, left[:, :, ::-1]))
    # Rounded before anything is counted, so that what is shown agrees with what is counted.
    scores = np.minimum(np.maximum(plain, flipped), 1).round(4)
    scores[first.digests[rows, None] == second.digests[columns]] = -np.inf
    if first is second and i == j:
        scores[np.tril_indices(len(scores))] = -np.inf
    return scores, flipped > plain


def _find_most_similar(scores: Scores, similarity: float) -> Int64[np.ndarray, "found 2"]:
    """Rows and columns of all that is alike, but of the most similar pair at least."""
    best = float(scores.max())
    if best == -np.inf:
        return np.empty((0, 2), np.int64)
    found = np.argwhere(scores >= min(best, similarity))
    order = np.argsort(-scores[tuple(found.T)], kind="stable")
    return found[order[:PAIRS_KEPT]]


def _keep_most_similar(pairs: Sequence[Pair]) -> list[Pair]:
    return sorted(pairs, key=to_rank)[:PAIRS_KEPT]


def to_rank(pair: Pair) -> tuple[float, int, int]:
    """Sorts the most alike first."""
    return -pair.similarity, pair.first.index, pair.second.index
