"""An audit of images before training on them. Nothing is changed or removed."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import stats

from pneumo_keras.arrays import CLASS_NAMES, Images
from pneumo_keras.audit.copies import (
    Digests,
    ExactDuplicates,
    NearDuplicates,
    Occurrence,
    find_alike,
    find_identical,
    name_pair,
    to_details,
)
from pneumo_keras.data.images import LabelledImages, count_classes, iterate_images
from pneumo_keras.data.overlap import SharedPatients, count_shared
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.errors import DataError

PREVALENCE, MEASURES = "prevalence", ("mean grey", "contrast")
CHANCE = 0.01  # p below which a difference is more than chance
SMALL_PREVALENCE_SHIFT = 0.03
SMALL_D = 0.2  # Cohen's "small" effect
SEPARATING_AUC = 0.7
DIGEST_BYTES = 8  # among a million images two different ones share a digest with odds of 1 to 37 million


@dataclass(frozen=True)
class Exposure:
    """One measure of the images of a split: mean grey, or contrast, the standard deviation of the pixels.

    Means and standard deviations are over the images of each class; the AUC, in [0.5, 1], is that of this
    measure alone as a score; NaN where undefined.
    """

    means: list[float]
    deviations: list[float]
    auc: float
    is_separating: bool


@dataclass(frozen=True)
class SplitFacts:
    """One split: counts of images, height and width in pixels, and exposure by measure."""

    images: int
    normal: int
    pneumonia: int
    prevalence: float
    blank: int
    height: int
    width: int
    exposure: dict[str, Exposure]


@dataclass(frozen=True)
class Shift:
    """How a measure of the images, all or those of one class, in split `second` differs from that in `first`.

    Attributes:
        measure: Prevalence, mean grey or contrast.
        effect: Difference of prevalence, or of means over the pooled standard deviation (Cohen's d).
        p: From Fisher's exact test for prevalence, from a z-test for the means.
        is_notable: Whether it is beyond chance and large enough to matter.
    """

    measure: str
    images: str
    first: str
    second: str
    effect: float
    p: float
    is_notable: bool


@dataclass(frozen=True)
class KnownPatients:
    """By split the images whose patient is known and how many patients these are; by pair who is in both."""

    images: dict[str, int]
    patients: dict[str, int]
    shared: dict[str, SharedPatients | None]


@dataclass(frozen=True)
class Audit:
    """What was found. Shifts are those of every other split against the first."""

    splits: dict[str, SplitFacts]
    identical: ExactDuplicates
    alike: NearDuplicates
    shifts: list[Shift]
    patients: KnownPatients


def audit_images(
    splits: Mapping[str, LabelledImages], names: Mapping[str, ImageNames] | None = None
) -> Audit:
    """Compares images with each other, and splits with the first one, which is usually train.

    Raises:
        DataError: A split is empty.
    """
    names = names or {}
    facts, occurrences, digests, details = {}, [], [], []
    for split, source in splits.items():
        if not len(source):
            raise DataError(f"An audit needs images in every split. Received: none in split '{split}'.")
        exposures = []
        for images in iterate_images(source):
            digests.append(_digest(images))
            details.append(to_details(images))
            exposures.append((images.mean(axis=(1, 2)), images.std(axis=(1, 2))))
        occurrences += list_occurrences(split, source, names)
        greys, contrasts = (np.concatenate(part) for part in zip(*exposures, strict=True))
        facts[split] = _describe(source, greys, contrasts)
    all_digests = np.concatenate(digests)
    return Audit(
        splits=facts,
        identical=find_identical(occurrences, all_digests),
        alike=find_alike(occurrences, all_digests, np.concatenate(details)),
        shifts=_compare(facts),
        patients=_compare_patients(names),
    )


def list_occurrences(split: str, images: LabelledImages, names: Mapping[str, ImageNames]) -> list[Occurrence]:
    """All images of a split, with their files where these are known."""
    files = names[split].files if split in names else None
    labels = images.labels.tolist()
    return [
        Occurrence(split, index, label, file)
        for index, (label, file) in enumerate(zip(labels, files or [""] * len(labels), strict=True))
    ]


def _digest(images: Images) -> Digests:
    shape = repr(images.shape[1:]).encode()
    digests = (hashlib.blake2b(shape + image.tobytes(), digest_size=DIGEST_BYTES) for image in images)
    return np.frombuffer(b"".join(digest.digest() for digest in digests), np.int64)


def _describe(
    source: LabelledImages, greys: Float64[np.ndarray, " n"], contrasts: Float64[np.ndarray, " n"]
) -> SplitFacts:
    normal, pneumonia = count_classes(source.labels)
    by_class = {
        measure: [values[source.labels == label] for label in range(len(CLASS_NAMES))]
        for measure, values in zip(MEASURES, (greys, contrasts), strict=True)
    }
    return SplitFacts(
        images=len(source),
        normal=normal,
        pneumonia=pneumonia,
        prevalence=pneumonia / len(source),
        blank=int((contrasts == 0).sum()),
        height=source.shape[0],
        width=source.shape[1],
        exposure={measure: _to_exposure(*values) for measure, values in by_class.items()},
    )


def _to_exposure(
    normal: Float64[np.ndarray, " normal"], pneumonia: Float64[np.ndarray, " pneumonia"]
) -> Exposure:
    auc = p = math.nan
    if len(normal) and len(pneumonia):
        test: Any = stats.mannwhitneyu(pneumonia, normal)
        auc, p = float(test.statistic) / (len(normal) * len(pneumonia)), float(test.pvalue)
        auc = max(auc, 1 - auc)
    both = (normal, pneumonia)
    means = [float(one.mean()) if len(one) else math.nan for one in both]
    deviations = [float(one.std(ddof=1)) if len(one) > 1 else math.nan for one in both]
    return Exposure(means, deviations, auc, is_separating=auc >= SEPARATING_AUC and p < CHANCE)


def _compare(splits: Mapping[str, SplitFacts]) -> list[Shift]:
    (name, first), *others = splits.items()
    shifts = []
    for split, facts in others:
        test: Any = stats.fisher_exact([[one.normal, one.pneumonia] for one in (first, facts)])
        effect, p = facts.prevalence - first.prevalence, float(test.pvalue)
        is_notable = abs(effect) >= SMALL_PREVALENCE_SHIFT and p < CHANCE
        shifts.append(Shift(PREVALENCE, "all", name, split, effect, p, is_notable))
        for measure in MEASURES:
            for label, group in enumerate(CLASS_NAMES):
                effect, p = _to_shift(first, facts, measure, label)
                is_notable = abs(effect) >= SMALL_D and p < CHANCE
                shifts.append(Shift(measure, group, name, split, effect, p, is_notable))
    return shifts


def _to_shift(first: SplitFacts, second: SplitFacts, measure: str, label: int) -> tuple[float, float]:
    """Cohen's d of a measure of the images of a class, and its p; NaN where it is undefined."""
    n, m = ((facts.normal, facts.pneumonia)[label] for facts in (first, second))
    a, b = (facts.exposure[measure] for facts in (first, second))
    sd_a, sd_b = a.deviations[label], b.deviations[label]
    pooled = math.sqrt(((n - 1) * sd_a**2 + (m - 1) * sd_b**2) / max(n + m - 2, 1))
    if not pooled > 0:
        return math.nan, math.nan
    d = (b.means[label] - a.means[label]) / pooled
    return d, float(2 * stats.norm.sf(abs(d) / math.sqrt(1 / n + 1 / m)))


def _compare_patients(names: Mapping[str, ImageNames]) -> KnownPatients:
    known = {split: [one for one in part.patients or () if one] for split, part in names.items()}
    return KnownPatients(
        images={split: len(patients) for split, patients in known.items()},
        patients={split: len(set(patients)) for split, patients in known.items()},
        shared={
            name_pair(first, second): count_shared(names[second], [names[first]])
            for first, second in combinations(names, 2)
        },
    )
