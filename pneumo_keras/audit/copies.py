"""Images that are identical or almost equal, within a split or in two."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from pneumo_keras.arrays import Images
from pneumo_keras.runtime.progress import show_progress

COMPARISON_SIZE = 28  # pixels, at which images are compared
# Wider structures, the outline of a chest, are similar in all children: with them the closest images of
# different children reach 0.974 in PneumoniaMNIST and 0.983 in phantoms.
DETAIL_SIGMA = 2.0  # pixels
# Chosen on PneumoniaMNIST at 28 px, by eye and by altering its images: its closest images that are not
# identical reach 0.90. At least 99 % of copies stay above when saved as JPEG of quality 75, brightened or
# darkened (gamma 0.6 to 1.6), turned by 1 degree, zoomed by 2 % or moved by a quarter of a pixel.
SIMILARITY = 0.96
BLANK = 1e-2  # grey levels; rounding leaves less than that of a blank image
BLOCK = 256  # images that are compared with all others at once
PAIRS_KEPT = 10_000

Digests = Int64[np.ndarray, " n"]
Details = Float32[np.ndarray, "n 28 28"]


@dataclass(frozen=True)
class Occurrence:
    """An image by its split and its index there, from 0; with its file, if it is a single one."""

    split: str
    index: int
    label: int
    file: str = ""


@dataclass(frozen=True)
class ExactDuplicates:
    """Byte-identical images of the same height and width.

    Attributes:
        counts: By pair of splits, the distinct images that are in both, however often; of a split with
            itself, its images beyond the first of each group.
        conflicts: Groups with both labels.
        groups: Two or more occurrences of the same image; those with both labels first, then those in several
            splits.
    """

    counts: dict[str, int]
    conflicts: int
    groups: list[list[Occurrence]]


@dataclass(frozen=True)
class Pair:
    """Two images that are not identical, with their similarity in [-1, 1] to four decimals."""

    first: Occurrence
    second: Occurrence
    similarity: float
    mirrored: bool


@dataclass(frozen=True)
class NearDuplicates:
    """Images that are almost equal but not identical; of identical ones the first counts.

    Attributes:
        counts: Pairs, by pair of splits; a split is paired with itself, too.
        conflicts: Pairs with different labels.
        pairs: The most similar first, no more than 10,000.
    """

    counts: dict[str, int]
    conflicts: int
    pairs: list[Pair]


def find_identical(occurrences: Sequence[Occurrence], digests: Digests) -> ExactDuplicates:
    """Groups images by their digests. Those of a split follow each other."""
    found: dict[int, list[Occurrence]] = defaultdict(list)
    for occurrence, digest in zip(occurrences, digests.tolist(), strict=True):
        found[digest].append(occurrence)
    groups = [group for group in found.values() if len(group) > 1]
    groups.sort(key=lambda group: (-_count_labels(group), -len({occurrence.split for occurrence in group})))
    counts = _pair_splits(occurrences)
    for group in groups:
        of_split = Counter(occurrence.split for occurrence in group)
        for split, count in of_split.items():
            counts[name_pair(split, split)] += count - 1
        for first, second in combinations(of_split, 2):
            counts[name_pair(first, second)] += 1
    return ExactDuplicates(counts, sum(_count_labels(group) > 1 for group in groups), groups)


def find_alike(occurrences: Sequence[Occurrence], digests: Digests, details: Details) -> NearDuplicates:
    """Compares every distinct image with every other one, as it is and mirrored.

    The similarity is the correlation of their fine structure. A blank image is similar to no other.
    """
    distinct = np.sort(np.unique(digests, return_index=True)[1])
    details = details[distinct]
    flat = details.reshape(len(details), -1)
    found: list[tuple[float, int, int, bool]] = []
    with show_progress("Comparing images", len(details), "images") as progress:
        for start in range(0, len(details), BLOCK):
            block = details[start : start + BLOCK]
            plain, mirrored = (
                images.reshape(len(images), -1) @ flat[start:].T for images in (block, block[:, :, ::-1])
            )
            scores = np.maximum(plain, mirrored).clip(-1, 1).round(4)
            rows, columns = np.nonzero(np.triu(scores >= SIMILARITY, k=1))
            found += zip(
                (-scores[rows, columns].astype(float).round(4)).tolist(),
                distinct[start + rows].tolist(),
                distinct[start + columns].tolist(),
                (mirrored > plain)[rows, columns].tolist(),
                strict=True,
            )
            progress.advance(len(block))
    pairs = [
        Pair(occurrences[first], occurrences[second], -score, is_mirrored)
        for score, first, second, is_mirrored in sorted(found)
    ]
    counts = _pair_splits(occurrences)
    for pair in pairs:
        counts[name_pair(pair.first.split, pair.second.split)] += 1
    conflicts = sum(pair.first.label != pair.second.label for pair in pairs)
    return NearDuplicates(counts, conflicts, pairs[:PAIRS_KEPT])


def to_details(images: Images) -> Details:
    """The fine structure of images at 28 px, with mean 0 and length 1; blank ones are next to 0."""
    small = np.stack([_shrink(image) for image in images])
    details = small - gaussian_filter(small, (0, DETAIL_SIGMA, DETAIL_SIGMA))
    details -= details.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt(np.square(details).sum(axis=(1, 2), keepdims=True))
    return details / np.maximum(lengths, BLANK)


def name_pair(first: str, second: str) -> str:
    """The key of a pair of splits."""
    return f"{first}/{second}"


def _pair_splits(occurrences: Sequence[Occurrence]) -> dict[str, int]:
    splits = dict.fromkeys(occurrence.split for occurrence in occurrences)
    return {name_pair(*pair): 0 for pair in combinations_with_replacement(splits, 2)}


def _shrink(image: UInt8[np.ndarray, "height width"]) -> Float32[np.ndarray, "28 28"]:
    picture = Image.fromarray(image.astype(np.float32))
    return np.asarray(picture.resize((COMPARISON_SIZE, COMPARISON_SIZE), Image.Resampling.BOX))


def _count_labels(group: Sequence[Occurrence]) -> int:
    return len({occurrence.label for occurrence in group})
