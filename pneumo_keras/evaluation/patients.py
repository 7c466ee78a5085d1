"""Which images are of the same patient: such images resemble each other.

Intervals that take each image as independent are then too short, so where patients are known, intervals
and resamples take the images of a patient together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from pneumo_keras.arrays import Labels

Patients = Int64[np.ndarray, " n"]
"""The number of each image's patient, from 0 without gaps."""


@dataclass(frozen=True)
class PatientCounts:
    """All patients of some images, those with normal and those with pneumonia images; some may have both."""

    all: int
    normal: int
    pneumonia: int


def to_groups(patients: Sequence[str] | None) -> Patients | None:
    """Numbers of the images' patients; None where no patient is known to have two of the images.

    An unknown patient, "", is taken for one with no other image.
    """
    if patients is None:
        return None
    numbers: dict[object, int] = {}
    groups = [numbers.setdefault(patient or index, len(numbers)) for index, patient in enumerate(patients)]
    return np.array(groups, dtype=np.int64) if len(numbers) < len(groups) else None


def select_patients(
    patients: Patients | None, inside: Bool[np.ndarray, " n"]
) -> Int64[np.ndarray, " inside"] | None:
    """Those of some images, renumbered; None where none has two of these."""
    if patients is None:
        return None
    names, numbers = np.unique(patients[inside], return_inverse=True)
    return numbers.astype(np.int64) if len(names) < len(numbers) else None


def count_patients(labels: Labels, patients: Patients) -> PatientCounts:
    """Counts patients, in all and by the class of their images."""
    normal, pneumonia = (len(np.unique(patients[labels == label])) for label in (0, 1))
    return PatientCounts(int(patients.max()) + 1, normal, pneumonia)


def list_strata(
    labels: Labels, patients: Patients | None
) -> tuple[Int64[np.ndarray, " n"], list[Int64[np.ndarray, " _stratum"]]]:
    """The unit of each image (itself or its patient), and the units without and with pneumonia images."""
    units = np.arange(len(labels)) if patients is None else patients
    ill = np.bincount(units, labels) > 0
    return units, [stratum for stratum in (np.flatnonzero(~ill), np.flatnonzero(ill)) if len(stratum)]


def count_rarer(labels: Labels, patients: Patients | None) -> int:
    """Images of the rarer class (of the only one), or patients of the rarer kind, see `list_strata`."""
    return min(map(len, list_strata(labels, patients)[1]))
