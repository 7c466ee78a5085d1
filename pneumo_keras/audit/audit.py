"""A look at films before anybody trains on them: classes, repeats, look-alikes, exposure.

Nothing is changed or removed.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from scipy import stats
from scipy.ndimage import gaussian_filter

from pneumo_keras.arrays import CLASS_NAMES, Images, Labels
from pneumo_keras.data.films import LabelledFilms, count_classes
from pneumo_keras.errors import DataError
from pneumo_keras.progress import Progress, show_progress

# Chosen on PneumoniaMNIST at 28 px, by eye and by altering its films. Its closest films that are not
# identical reach 0.90 and are plainly different children; phantoms reach 0.95, one pair in 12 million
# 0.9602. At least 99 % of copies stay above the threshold when saved as JPEG of quality 75, brightened
# or darkened (gamma 0.6 to 1.6), turned by 1 degree, zoomed by 2 % or moved by a quarter of a pixel.
# Moved by half a pixel, turned by 2 degrees or saved at quality 50 most fall below it and are missed.
SIMILARITY = 0.96

# Wider structures, the outline of a chest, are alike in all children: with them the closest strangers
# reach 0.974 in PneumoniaMNIST and 0.983 in phantoms.
DETAIL_SIGMA = 1 / 14  # of the edge: 2 pixels of 28

COMPARED_EDGE = 28  # larger films are averaged down to this before they are compared
BLANK = 1e-2  # grey levels; rounding leaves less than that of a blank film
TILE = 1024  # films a side of one matrix product: 4 MB
PAIRS_KEPT = 10_000
FILMS_AT_ONCE = 256

# Cohen's "small" effect; for the Kolmogorov-Smirnov distance, about what a shift of d = 0.4 gives.
SMALL_D, SMALL_KS, CHANCE = 0.2, 0.15, 0.01
SMALL_PRIOR_SHIFT = 0.03
TELLING_AUC = 0.7

MEASURES = ("mean grey", "contrast")
GROUPS = ("all", *CLASS_NAMES)

Vectors = Float32[np.ndarray, "n d"]
PerFilm = Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class Place:
    """Where a film stands: the index counts from 0 within its split."""

    split: str
    index: int
    label: int


@dataclass(frozen=True)
class Pair:
    """Two films that are not identical, with their similarity in [-1, 1]."""

    first: Place
    second: Place
    similarity: float
    mirrored: bool


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over films; NaN where there are too few."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class SplitFacts:
    """One split.

    Attributes:
        films: How many.
        normal: Films with label 0.
        pneumonia: Films with label 1.
        pneumonia_share: The prior, in [0, 1].
        height: In pixels.
        width: In pixels.
        blank: Films of one grey level.
        exposure: By measure (mean grey of a film; contrast, the standard deviation of its pixels)
            and class, on the scale 0 to 255.
        separation: By measure, the AUC with which that number alone tells the classes apart; in
            [0.5, 1], NaN where a class is missing.
    """

    films: int
    normal: int
    pneumonia: int
    pneumonia_share: float
    height: int
    width: int
    blank: int
    exposure: dict[str, dict[str, Spread]]
    separation: dict[str, float]


@dataclass(frozen=True)
class Identical:
    """Byte-identical films of the same height and width.

    Attributes:
        groups: Two or more places of the same film; those with both labels first, then those in
            several splits.
        repeats: By split, the films beyond the first of their group inside the split. A film that
            stands three times counts two.
        shared: By pair of splits, the distinct films that stand in both, however often.
        conflicts: Groups with both labels.
    """

    groups: list[list[Place]]
    repeats: dict[str, int]
    shared: dict[str, int]
    conflicts: int


@dataclass(frozen=True)
class Alike:
    """Pairs of films that are almost equal but not identical.

    Attributes:
        similarity: Pairs count from here on.
        height: At which films were compared, in pixels.
        width: At which films were compared, in pixels.
        counts: Pairs, by pair of splits; a split is paired with itself, too.
        closest: The most similar pair, by pair of splits, also below `similarity`.
        pairs: The most similar first, no more than 10,000.
    """

    similarity: float
    height: int
    width: int
    counts: dict[str, int]
    closest: dict[str, Pair]
    pairs: list[Pair]


@dataclass(frozen=True)
class PriorShift:
    """Share of pneumonia in `second` less that in `first`; p of Fisher's exact test."""

    first: str
    second: str
    difference: float
    p: float


@dataclass(frozen=True)
class ExposureShift:
    """How far one measure of the films in `second` lies from that in `first`.

    Attributes:
        measure: Mean grey or contrast.
        films: All, or those of one class.
        first: The split compared with.
        second: The split that is compared.
        d: Difference of the means over the pooled standard deviation (Cohen's d).
        ks: Largest distance of the two distribution functions (Kolmogorov-Smirnov), in [0, 1].
        p: Of the Kolmogorov-Smirnov test, asymptotic.
    """

    measure: str
    films: str
    first: str
    second: str
    d: float
    ks: float
    p: float

    @property
    def is_notable(self) -> bool:
        """Both more than chance and large enough to matter."""
        return (abs(self.d) >= SMALL_D or self.ks >= SMALL_KS) and self.p < CHANCE


@dataclass(frozen=True)
class Audit:
    """What was found. Shifts are those of every other split against the first."""

    splits: dict[str, SplitFacts]
    identical: Identical
    alike: Alike
    prior_shifts: list[PriorShift]
    exposure_shifts: list[ExposureShift]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; None for NaN."""
        return _to_plain(asdict(self))


def audit_films(splits: Mapping[str, LabelledFilms], *, similarity: float = SIMILARITY) -> Audit:
    """Measures what a training should know about its films.

    Args:
        splits: The first one, train by custom, is what the others are compared with.
        similarity: From here on two films count as almost equal, in (0, 1]. It is the correlation
            of their fine structure, of one film as it is or mirrored. Films above 28 px are
            averaged down first. A blank film is like no other.

    Raises:
        DataError: A split is empty.
    """
    for split, films in splits.items():
        if not len(films):
            raise DataError(f"An audit needs films in every split. Received: none in split '{split}'.")
    keys = {split: _to_keys(films.images) for split, films in splits.items()}
    exposure = {split: measure_exposure(films.images) for split, films in splits.items()}
    return Audit(
        splits={split: _describe(films, exposure[split]) for split, films in splits.items()},
        identical=_find_identical(splits, keys),
        alike=_find_alike(splits, keys, similarity),
        prior_shifts=_compare_priors(splits),
        exposure_shifts=_compare_exposure(splits, exposure),
    )


def measure_exposure(images: Images) -> dict[str, PerFilm]:
    """Mean grey and contrast of each film, on the scale 0 to 255."""
    # a few films at a time, since the standard deviation takes eight bytes a pixel
    parts = [(part.mean(axis=(1, 2)), part.std(axis=(1, 2))) for part in _iterate(images)]
    means, contrasts = zip(*parts, strict=True)
    return {"mean grey": np.concatenate(means), "contrast": np.concatenate(contrasts)}


def _iterate(images: Images) -> Iterator[Images]:
    for start in range(0, len(images), FILMS_AT_ONCE):
        yield images[start : start + FILMS_AT_ONCE]


def _describe(films: LabelledFilms, exposure: Mapping[str, PerFilm]) -> SplitFacts:
    normal, pneumonia = count_classes(films.labels)
    return SplitFacts(
        films=len(films),
        normal=normal,
        pneumonia=pneumonia,
        pneumonia_share=pneumonia / len(films),
        height=films.images.shape[1],
        width=films.images.shape[2],
        blank=int((exposure["contrast"] == 0).sum()),
        exposure={
            measure: {group: _to_spread(_pick(values, films.labels, group)) for group in GROUPS}
            for measure, values in exposure.items()
        },
        separation={measure: _to_separation(values, films.labels) for measure, values in exposure.items()},
    )


def _pick(values: PerFilm, labels: Labels, group: str) -> PerFilm:
    return values if group == "all" else values[labels == CLASS_NAMES.index(group)]


def _to_spread(values: PerFilm) -> Spread:
    return Spread(
        n=len(values),
        mean=float(values.mean()) if len(values) else math.nan,
        sd=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
    )


def _to_separation(values: PerFilm, labels: Labels) -> float:
    pneumonia = int(labels.sum())
    pairs = pneumonia * (len(labels) - pneumonia)
    if not pairs:
        return math.nan
    above = stats.rankdata(values)[labels == 1].sum() - pneumonia * (pneumonia + 1) / 2
    return max(float(above / pairs), 1 - float(above / pairs))


def _to_keys(images: Images) -> list[bytes]:
    shape = repr(images.shape[1:]).encode()
    return [hashlib.sha256(shape + image.tobytes()).digest() for image in images]


def _find_identical(splits: Mapping[str, LabelledFilms], keys: Mapping[str, list[bytes]]) -> Identical:
    places: dict[bytes, list[Place]] = defaultdict(list)
    for split, films in splits.items():
        for index, key in enumerate(keys[split]):
            places[key].append(Place(split, index, int(films.labels[index])))
    groups = [group for group in places.values() if len(group) > 1]
    groups.sort(key=lambda group: (-_count_labels(group), -len({place.split for place in group})))
    return Identical(
        groups=groups,
        repeats={split: len(part) - len(set(part)) for split, part in keys.items()},
        shared={
            name_pair(first, second): len(set(keys[first]) & set(keys[second]))
            for first, second in combinations(splits, 2)
        },
        conflicts=sum(_count_labels(group) > 1 for group in groups),
    )


def _count_labels(group: Sequence[Place]) -> int:
    return len({place.label for place in group})


def name_pair(first: str, second: str) -> str:
    """Of two splits, as the counts are keyed."""
    return f"{first}/{second}"


@dataclass(frozen=True)
class _Side:
    """One split as the comparison sees it; films with the same number are identical."""

    places: list[Place]
    vectors: Vectors
    mirrored: Vectors
    numbers: np.ndarray


def _find_alike(
    splits: Mapping[str, LabelledFilms], keys: Mapping[str, list[bytes]], similarity: float
) -> Alike:
    height, width = (
        min([COMPARED_EDGE, *(films.images.shape[axis] for films in splits.values())]) for axis in (1, 2)
    )
    numbers = {key: number for number, key in enumerate({key for part in keys.values() for key in part})}
    sides = {
        split: _to_side(split, films, [numbers[key] for key in keys[split]], height, width)
        for split, films in splits.items()
    }
    counts: dict[str, int] = {}
    closest: dict[str, Pair] = {}
    pairs: list[Pair] = []
    n = sum(map(len, splits.values()))
    with show_progress("Comparing films", n * (n - 1) // 2, "pairs", scale=True) as progress:
        for first, second in combinations_with_replacement(splits, 2):
            name = name_pair(first, second)
            counts[name], best, found = _compare(sides[first], sides[second], similarity, progress)
            if best:
                closest[name] = best
            pairs = _keep_most_similar([*pairs, *found])
    return Alike(similarity, height, width, counts, closest, pairs)


def _to_side(split: str, films: LabelledFilms, numbers: list[int], height: int, width: int) -> _Side:
    vectors = np.concatenate([_to_vectors(part, height, width) for part in _iterate(films.images)])
    mirrored = vectors.reshape(-1, height, width)[:, :, ::-1].reshape(vectors.shape)
    places = [Place(split, index, int(label)) for index, label in enumerate(films.labels)]
    return _Side(places, vectors, mirrored, np.array(numbers))


def _to_vectors(images: Images, height: int, width: int) -> Vectors:
    """The fine structure of films averaged down, with mean 0 and length 1; blank ones are next to 0."""
    rows, columns = (
        _to_averaging(size, out) for size, out in zip(images.shape[1:], (height, width), strict=True)
    )
    small = rows @ images.astype(np.float32) @ columns.T
    detail = small - gaussian_filter(small, (0, height * DETAIL_SIGMA, width * DETAIL_SIGMA))
    vectors = detail.reshape(len(images), -1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, BLANK)


def _to_averaging(size: int, out: int) -> Float32[np.ndarray, "out size"]:
    """The matrix that averages `size` pixels to `out`, each by the share of it that is covered."""
    edges = np.linspace(0, size, out + 1)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(covered, 0) * out / size).astype(np.float32)


def _compare(
    first: _Side, second: _Side, similarity: float, progress: Progress
) -> tuple[int, Pair | None, list[Pair]]:
    """How many pairs are alike, the most similar pair of all, and the pairs that are alike."""
    count = 0
    best: Pair | None = None
    alike: list[Pair] = []
    for i, j in _iterate_tiles(len(first.places), len(second.places), within=first is second):
        scores, mirrored = _score_tile(first, second, i, j)
        progress.advance(int(np.isfinite(scores).sum()))
        for row, column in _find_most_similar(scores, similarity):
            pair = Pair(
                first.places[i + row],
                second.places[j + column],
                round(float(scores[row, column]), 4),
                bool(mirrored[row, column]),
            )
            if scores[row, column] >= similarity:
                alike.append(pair)
            if best is None or pair.similarity > best.similarity:
                best = pair
        count += int((scores >= similarity).sum())
        alike = _keep_most_similar(alike)
    return count, best, alike


def _iterate_tiles(rows: int, columns: int, *, within: bool) -> Iterator[tuple[int, int]]:
    for i in range(0, rows, TILE):
        for j in range(i if within else 0, columns, TILE):
            yield i, j


def _score_tile(first: _Side, second: _Side, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarity of each pair of a tile, and whether it is that of the mirrored film.

    Pairs of identical films, of a film with itself and those that come twice are -inf.
    """
    rows, columns = slice(i, i + TILE), slice(j, j + TILE)
    plain = first.vectors[rows] @ second.vectors[columns].T
    flipped = first.mirrored[rows] @ second.vectors[columns].T
    scores = np.minimum(np.maximum(plain, flipped), 1)
    scores[first.numbers[rows, None] == second.numbers[columns]] = -np.inf
    if first is second and i == j:
        scores[np.tril_indices(len(scores))] = -np.inf
    return scores, flipped > plain


def _find_most_similar(scores: np.ndarray, similarity: float) -> np.ndarray:
    """Rows and columns of all that is alike, but of the most similar pair at least."""
    best = float(scores.max())
    if best == -np.inf:
        return np.empty((0, 2), np.int64)
    found = np.argwhere(scores >= min(best, similarity))
    order = np.argsort(-scores[tuple(found.T)], kind="stable")
    return found[order[:PAIRS_KEPT]]


def _keep_most_similar(pairs: list[Pair]) -> list[Pair]:
    return sorted(pairs, key=to_rank)[:PAIRS_KEPT]


def to_rank(pair: Pair) -> tuple[float, int, int]:
    """Sorts the most alike first."""
    return -pair.similarity, pair.first.index, pair.second.index


def _compare_priors(splits: Mapping[str, LabelledFilms]) -> list[PriorShift]:
    first, *others = splits
    table = {split: count_classes(films.labels) for split, films in splits.items()}
    share = {split: counts[1] / sum(counts) for split, counts in table.items()}
    shifts = []
    for other in others:
        test: Any = stats.fisher_exact([table[first], table[other]])
        shifts.append(PriorShift(first, other, share[other] - share[first], float(test.pvalue)))
    return shifts


def _compare_exposure(
    splits: Mapping[str, LabelledFilms], exposure: Mapping[str, Mapping[str, PerFilm]]
) -> list[ExposureShift]:
    first, *others = splits
    shifts = []
    for other in others:
        for measure in MEASURES:
            for group in GROUPS:
                a, b = (
                    _pick(exposure[split][measure], splits[split].labels, group) for split in (first, other)
                )
                shifts.append(ExposureShift(measure, group, first, other, *_to_shift(a, b)))
    return shifts


def _to_shift(a: PerFilm, b: PerFilm) -> tuple[float, float, float]:
    """Cohen's d, Kolmogorov-Smirnov distance and its p; NaN below two films."""
    if min(len(a), len(b)) < 2:
        return math.nan, math.nan, math.nan
    freedom = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom)
    test: Any = stats.ks_2samp(a, b, method="asymp")
    d = float(b.mean() - a.mean()) / pooled if pooled else math.nan
    return d, float(test.statistic), float(test.pvalue)


def _to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_to_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
