"""How bright images are and how rich in contrast, by class; how far that tells classes or splits apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import stats

from pneumo_keras.arrays import CLASS_NAMES, Labels
from pneumo_keras.audit.traces import MEASURES, PerImage, Traces
from pneumo_keras.evaluation.intervals import to_guessing_error, to_placements
from pneumo_keras.evaluation.metrics import has_both_classes

# Cohen's "small" effect; for the Kolmogorov-Smirnov distance, about what a shift of d = 0.4 gives.
SMALL_D, SMALL_KS, CHANCE = 0.2, 0.15, 0.01
TELLING_AUC = 0.7
GROUPS = ("all", *CLASS_NAMES)

Picked = Float64[np.ndarray, " picked"]
Others = Float64[np.ndarray, " others"]


@dataclass(frozen=True)
class MeanAndDeviation:
    """Mean and standard deviation over images; NaN where there are too few."""

    n: int
    mean: float
    deviation: float


@dataclass(frozen=True)
class ExposureShift:
    """How far one measure of the images in `second` lies from that in `first`.

    Attributes:
        measure: Mean grey or contrast.
        images: All, or those of one class.
        first: The split compared with.
        second: The split that is compared.
        d: Difference of the means over the pooled standard deviation (Cohen's d).
        ks: Largest distance of the two distribution functions (Kolmogorov-Smirnov), in [0, 1].
        p: Of the Kolmogorov-Smirnov test, asymptotic.
    """

    measure: str
    images: str
    first: str
    second: str
    d: float
    ks: float
    p: float

    @property
    def is_notable(self) -> bool:
        """Both more than chance and large enough to matter."""
        return (abs(self.d) >= SMALL_D or self.ks >= SMALL_KS) and self.p < CHANCE


def to_group_figures(values: PerImage, labels: Labels) -> dict[str, MeanAndDeviation]:
    """Of all images, and of those of each class."""
    return {group: _to_mean_and_deviation(_pick(values, labels, group)) for group in GROUPS}


def _pick(values: PerImage, labels: Labels, group: str) -> Picked:
    return values if group == "all" else values[labels == CLASS_NAMES.index(group)]


def _to_mean_and_deviation(values: Picked) -> MeanAndDeviation:
    return MeanAndDeviation(
        n=len(values),
        mean=float(values.mean()) if len(values) else math.nan,
        deviation=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
    )


def to_separation(values: PerImage, labels: Labels) -> float:
    """AUC with which a number alone tells the classes apart, in [0.5, 1]; NaN where one is missing."""
    if not has_both_classes(labels):
        return math.nan
    auc = float(to_placements(labels, values)[0].mean())
    return max(auc, 1 - auc)


def list_telling(separation: Mapping[str, float], *, normal: int, pneumonia: int) -> list[str]:
    """Measures that tell the classes, of so many images, apart beyond chance and far enough to matter."""
    least = max(TELLING_AUC, 0.5 + 3 * to_guessing_error(normal, pneumonia))
    return [measure for measure, auc in separation.items() if auc >= least]


def compare_exposure(splits: Sequence[Traces]) -> list[ExposureShift]:
    """The shifts of every other split against the first, by measure and class."""
    first, *others = splits
    shifts = []
    for other in others:
        for measure in MEASURES:
            for group in GROUPS:
                a, b = (_pick(part.exposure[measure], part.labels, group) for part in (first, other))
                shifts.append(ExposureShift(measure, group, first.split, other.split, *_to_shift(a, b)))
    return shifts


def _to_shift(a: Picked, b: Others) -> tuple[float, float, float]:
    """Cohen's d, Kolmogorov-Smirnov distance and its p; NaN below two images."""
    if min(len(a), len(b)) < 2:
        return math.nan, math.nan, math.nan
    freedom = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom)
    test: Any = stats.ks_2samp(a, b, method="asymp")
    d = float(b.mean() - a.mean()) / pooled if pooled else math.nan
    return d, float(test.statistic), float(test.pvalue)
