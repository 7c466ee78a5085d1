"""A look at images before anybody trains on them. Nothing is changed or removed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy import stats

from pneumo_keras.audit.exposure import (
    CHANCE,
    ExposureShift,
    MeanAndDeviation,
    compare_exposure,
    list_telling,
    to_group_figures,
    to_separation,
)
from pneumo_keras.audit.lookalikes import SIMILARITY, Alike, find_alike
from pneumo_keras.audit.patients import Patients, compare_patients
from pneumo_keras.audit.repeats import Identical, find_identical
from pneumo_keras.audit.traces import Traces, choose_shape, trace_images
from pneumo_keras.data.images import LabelledImages, count_classes
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.errors import DataError

SMALL_PRIOR_SHIFT = 0.03


@dataclass(frozen=True)
class SplitFacts:
    """One split.

    Attributes:
        images: How many.
        normal: Images with label 0.
        pneumonia: Images with label 1.
        pneumonia_share: The prior, in [0, 1].
        height: In pixels.
        width: In pixels.
        blank: Images of one grey level.
        exposure: By measure (mean grey of an image; contrast, the standard deviation of its pixels)
            and class, on the scale 0 to 255.
        separation: By measure, the AUC with which that number alone tells the classes apart; in
            [0.5, 1], NaN where a class is missing.
        telling: Measures whose separation is beyond chance and large enough to matter.
    """

    images: int
    normal: int
    pneumonia: int
    pneumonia_share: float
    height: int
    width: int
    blank: int
    exposure: dict[str, dict[str, MeanAndDeviation]]
    separation: dict[str, float]
    telling: list[str]


@dataclass(frozen=True)
class PriorShift:
    """Share of pneumonia in `second` less that in `first`; p of Fisher's exact test."""

    first: str
    second: str
    difference: float
    p: float

    @property
    def is_notable(self) -> bool:
        """Both more than chance and large enough to matter."""
        return abs(self.difference) >= SMALL_PRIOR_SHIFT and self.p < CHANCE


@dataclass(frozen=True)
class Audit:
    """What was found. Shifts are those of every other split against the first."""

    splits: dict[str, SplitFacts]
    identical: Identical
    alike: Alike
    prior_shifts: list[PriorShift]
    exposure_shifts: list[ExposureShift]
    patients: Patients


def audit_images(
    splits: Mapping[str, LabelledImages],
    names: Mapping[str, ImageNames] | None = None,
    *,
    similarity: float = SIMILARITY,
) -> Audit:
    """Measures what a training should know about its images.

    Args:
        splits: The first one, train by custom, is what the others are compared with.
        names: What is known of each image of the same splits, if anything is.
        similarity: From here on two images count as almost equal, in (0, 1]. It is the correlation
            of their fine structure, of one image as it is or mirrored. ImageSet above 28 px are
            averaged down first. A blank image is like no other.

    Raises:
        DataError: A split is empty.
    """
    for split, images in splits.items():
        if not len(images):
            raise DataError(f"An audit needs images in every split. Received: none in split '{split}'.")
    shape = choose_shape([images.shape for images in splits.values()])
    traces = [trace_images(split, images, shape) for split, images in splits.items()]
    facts = {part.split: _describe(part, splits[part.split].shape) for part in traces}
    return Audit(
        splits=facts,
        identical=find_identical(traces),
        alike=find_alike(traces, similarity),
        prior_shifts=_compare_priors(facts),
        exposure_shifts=compare_exposure(traces),
        patients=compare_patients(names or {}),
    )


def _describe(images: Traces, shape: tuple[int, int]) -> SplitFacts:
    normal, pneumonia = count_classes(images.labels)
    separation = {name: to_separation(values, images.labels) for name, values in images.exposure.items()}
    return SplitFacts(
        images=len(images.labels),
        normal=normal,
        pneumonia=pneumonia,
        pneumonia_share=pneumonia / len(images.labels),
        height=shape[0],
        width=shape[1],
        blank=int((images.exposure["contrast"] == 0).sum()),
        exposure={name: to_group_figures(values, images.labels) for name, values in images.exposure.items()},
        separation=separation,
        telling=list_telling(separation, normal=normal, pneumonia=pneumonia),
    )


def _compare_priors(splits: Mapping[str, SplitFacts]) -> list[PriorShift]:
    first, *others = splits.items()
    shifts = []
    for split, facts in others:
        table = [[part.normal, part.pneumonia] for part in (first[1], facts)]
        test: Any = stats.fisher_exact(table)
        difference = facts.pneumonia_share - first[1].pneumonia_share
        shifts.append(PriorShift(first[0], split, difference, float(test.pvalue)))
    return shifts
