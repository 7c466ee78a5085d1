"""Whose images stand in which split."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from pneumo_keras.audit.repeats import name_pair
from pneumo_keras.data.patients import SharedPatients, count_shared
from pneumo_keras.data.sources import ImageNames


@dataclass(frozen=True)
class Patients:
    """Patients, as far as they are known.

    Attributes:
        images: By split, those whose patient is known.
        patients: By split, how many these are.
        shared: By pair of splits, how the second shares patients with the first; None where nothing is
            known of that.
    """

    images: dict[str, int]
    patients: dict[str, int]
    shared: dict[str, SharedPatients | None]


def compare_patients(names: Mapping[str, ImageNames]) -> Patients:
    """Counts patients in each split, and those who stand in two."""
    known = {split: [one for one in part.patients or () if one] for split, part in names.items()}
    return Patients(
        images={split: len(patients) for split, patients in known.items()},
        patients={split: len(set(patients)) for split, patients in known.items()},
        shared={
            name_pair(first, second): count_shared(names[second], [names[first]])
            for first, second in combinations(names, 2)
        },
    )
