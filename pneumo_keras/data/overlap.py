"""Which images and which patients are in several sets of images."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt64

from pneumo_keras.data.images import ImageSet, iterate_images
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.storage.bounded_reading import load_npz
from pneumo_keras.storage.cache import HASHES
from pneumo_keras.storage.files import replace_atomically

LIMIT = 1 << 28  # bytes of all hashes that are kept
BYTES = 8  # of a hash: two of a million images share one by chance once in 40 million sets

Hashes = UInt64[np.ndarray, " n"]
PerImage = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class SharedPatients:
    """How a set of images shares patients with others.

    Attributes:
        patients: Patients who are in both.
        images: Images of the set that show these patients.
        known: Images of the set whose patient is known.
    """

    patients: int
    images: int
    known: int


def hash_images(images: ImageSet) -> Hashes:
    """A hash of the pixels of each image, which identifies it in any set."""
    digests = [
        hashlib.blake2b(image.tobytes(), digest_size=BYTES).digest()
        for part in iterate_images(images)
        for image in part
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def load_hashes(images: ImageSet, cache: Path) -> Hashes:
    """The same, kept below `cache` if that can be written, since reading images takes long."""
    path = cache / HASHES.folder / f"{images.fingerprint()}.npz"
    with contextlib.suppress(OSError, ValueError):
        (hashes,) = load_npz(path, ["hashes"])
        if hashes.shape == (len(images),) and hashes.dtype == np.uint64:
            return hashes
    hashes = hash_images(images)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as unfinished:
            np.savez(unfinished, hashes=hashes)
        HASHES.shrink(cache, LIMIT)
    return hashes


def find_shared(names: ImageNames, others: Sequence[ImageNames]) -> PerImage | None:
    """Which images show a patient who is in the others, too.

    Returns:
        None where that is unknown: no patients are, or none is shared while there are several numberings.
    """
    parts = [names, *others]
    if not others or any(part.patients is None for part in parts):
        return None
    elsewhere = {patient for part in others for patient in part.patients or ()} - {""}
    shared = np.array([patient in elsewhere for patient in names.patients or ()], bool)
    return shared if shared.any() or not have_several_numberings(parts) else None


def have_several_numberings(parts: Sequence[ImageNames]) -> bool:
    """Whether one patient may have several names in these sets."""
    return len({numbering for part in parts for numbering in part.numberings}) != 1


def find_new(names: ImageNames, others: Sequence[ImageNames]) -> PerImage | None:
    """Which images show a known patient who is not in the others; None as above."""
    shared = find_shared(names, others)
    if shared is None or have_several_numberings([names, *others]):
        return None
    return ~shared & np.array([bool(one) for one in names.patients or ()], bool)


def count_shared(names: ImageNames, others: Sequence[ImageNames]) -> SharedPatients | None:
    """How many images and patients are shared; None as above."""
    shared = find_shared(names, others)
    if shared is None:
        return None
    patients = np.array(names.patients, object)
    return SharedPatients(len(set(patients[shared])), int(shared.sum()), int((patients != "").sum()))
