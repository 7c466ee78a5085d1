"""Images of the same patient resemble each other: what they say together, and how surely.

Intervals that take each image for a witness of its own are too short. Where patients are known, they are
what is drawn: closed forms sum over the images of each patient, and the bootstrap draws patients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import ndtri, stdtrit

from pneumo_keras.arrays import Labels

Patients = Int64[np.ndarray, " n"]
"""The number of each image's patient, from 0 without gaps."""


BY_PATIENT = ", by patient"
"""Of a method that takes the images of a patient together."""


def to_groups(patients: Sequence[str] | None) -> Patients | None:
    """Numbers of the images' patients; None where no patient is known to have two of the images.

    Args:
        patients: Whose image each is; "" where unknown, which is taken for a patient with no other image.
    """
    if patients is None:
        return None
    numbers: dict[object, int] = {}
    groups = [numbers.setdefault(patient or index, len(numbers)) for index, patient in enumerate(patients)]
    return np.array(groups, dtype=np.int64) if len(numbers) < len(groups) else None


def select_patients(
    patients: Patients | None, inside: Bool[np.ndarray, " n"]
) -> Int64[np.ndarray, " inside"] | None:
    """Those of some images, numbered anew; None where none has two of these."""
    if patients is None:
        return None
    names, numbers = np.unique(patients[inside], return_inverse=True)
    return numbers.astype(np.int64) if len(names) < len(numbers) else None


def add_patients(patients: Patients, more: int) -> Int64[np.ndarray, " extended"]:
    """With as many patients of one image each behind them."""
    return np.append(patients, patients.max() + 1 + np.arange(more))


@dataclass(frozen=True)
class PatientCounts:
    """Patients of a set of images.

    Attributes:
        all: All of them.
        normal: With normal images.
        pneumonia: With pneumonia images; somebody may have both.
    """

    all: int
    normal: int
    pneumonia: int


def count_patients(labels: Labels, patients: Patients) -> PatientCounts:
    """How many patients there are."""
    normal, pneumonia = (len(np.unique(patients[labels == label])) for label in (0, 1))
    return PatientCounts(int(patients.max()) + 1, normal, pneumonia)


def count_rarer(labels: Labels, patients: Patients | None) -> int:
    """Images of the rarer class, which tells the least; its patients, where they are known."""
    units = labels if patients is None else labels[np.unique(2 * patients + labels, return_index=True)[1]]
    return int(np.unique(units, return_counts=True)[1].min())


def list_sums(
    parts: Float64[np.ndarray, " n"], labels: Labels, patients: Patients
) -> list[Float64[np.ndarray, " _patients"]]:
    """Sums over the images of each patient: of patients without pneumonia, then of those with it.

    Args:
        parts: What each image adds, less the mean of its class.
        labels: Of the images.
        patients: Of the images.
    """
    sums, ill = np.bincount(patients, parts), np.bincount(patients, labels) > 0
    return [sums[group] for group in (~ill, ill) if group.any()]


def to_variance(sums: Sequence[Float64[np.ndarray, " _patients"]]) -> tuple[float, float]:
    """Variance of the sum of all, and its degrees of freedom by Welch; NaN with one patient of a kind.

    References:
        Obuchowski, N. A. (1997). Nonparametric analysis of clustered ROC curve data. Biometrics 53, 567-578:
        the AUC as sums of placements over the images of each patient.
    """
    if min(map(len, sums)) < 2:
        return math.nan, math.nan
    variances = np.array([len(group) * np.var(group, ddof=1) for group in sums])
    total = float(variances.sum())
    if not total:
        return 0.0, math.nan
    return total, float(total**2 / np.sum(variances**2 / [len(group) - 1 for group in sums]))


def to_effective_size(part: Bool[np.ndarray, " n"], patients: Patients | None, *, level: float) -> float:
    """How many images of as many patients tell a share as well as these do; NaN of a single patient.

    The images by the design effect, shrunk by as much as Student's interval over patients is longer than the
    normal one. Where the share is 0 or 1 the design effect is the number of images a patient.

    Args:
        part: Which images are in the share.
        patients: Of the images.
        level: Of the interval.

    References:
        Rao, J. N. K. & Scott, A. J. (1992). A simple method for the analysis of clustered binary data.
        Biometrics 48, 577-585.
        Korn, E. L. & Graubard, B. I. (1998). Confidence intervals for proportions with small expected number
        of positive counts estimated from survey data. Survey Methodology 24, 193-201: Student's quantile.
    """
    n = len(part)
    if patients is None:
        return float(n)
    count = int(patients.max()) + 1
    if count < 2:
        return math.nan
    share = float(part.mean())
    sums = np.bincount(patients, part - share)
    variance, binomial = count / (count - 1) * float(np.sum(sums**2)) / n, share * (1 - share)
    size = n / max(1.0, variance / binomial) if binomial else count
    return size * float(ndtri((1 + level) / 2) / stdtrit(count - 1, (1 + level) / 2)) ** 2
