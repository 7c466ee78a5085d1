"""Which images show a patient of whom there is another image elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pneumo_keras.data.sources import ImageNames

PerImage = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class SharedPatients:
    """How a set of images shares patients with others.

    Attributes:
        patients: Who stand in both.
        images: Of the set, with a patient of whom the others hold an image.
        known: Images of the set whose patient is known.
    """

    patients: int
    images: int
    known: int


def find_shared(names: ImageNames, others: Sequence[ImageNames]) -> PerImage | None:
    """Which images show a patient of whom the others hold an image, too.

    Returns:
        None where nothing is known of that: no patients, or none in common while some are numbered anew.
    """
    parts = [names, *others]
    if not others or any(part.patients is None for part in parts):
        return None
    elsewhere = {patient for part in others for patient in part.patients or ()} - {""}
    shared = np.array([patient in elsewhere for patient in names.patients or ()], bool)
    return shared if shared.any() or not are_numbered_anew(parts) else None


def are_numbered_anew(parts: Sequence[ImageNames]) -> bool:
    """Whether one patient may have several names in these sets."""
    return len({numbering for part in parts for numbering in part.numberings}) != 1


def find_new(names: ImageNames, others: Sequence[ImageNames]) -> PerImage | None:
    """Which images show a patient who is known, and of whom the others hold no image; None as above."""
    shared = find_shared(names, others)
    if shared is None or are_numbered_anew([names, *others]):
        return None
    return ~shared & np.array([bool(one) for one in names.patients or ()], bool)


def count_shared(names: ImageNames, others: Sequence[ImageNames]) -> SharedPatients | None:
    """How many images and patients are shared; None as above."""
    shared = find_shared(names, others)
    if shared is None:
        return None
    patients = np.array(names.patients, object)
    return SharedPatients(len(set(patients[shared])), int(shared.sum()), int((patients != "").sum()))
