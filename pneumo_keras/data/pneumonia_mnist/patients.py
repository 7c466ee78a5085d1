"""Whose the images of PneumoniaMNIST at 28 px are, by their pixels.

The table beside this module holds a line a patient, with the hashes of the images: facts, and no image.
Patients are the numbers in the names of the files that Kermany et al. published; each file was matched with
its image at 28 px. Those of 85 images are unknown, 67 of them normal test images. Test images are numbered
anew: of no patient there is known whether training or validation show another image. Other sizes are not
in the table: nobody has matched them.
"""

import csv
import functools
import logging
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from pneumo_keras.data.hashes import BYTES, Hashes
from pneumo_keras.data.sources import ImageNames

log = logging.getLogger("pneumo_keras")

TABLE = Path(__file__).with_name("patients.csv")
SIZE = 28  # pixels, of the images in the table


def name_by_pixels(hashes: Hashes, *, split: str) -> ImageNames:
    """What the table knows of images by their hashes, wherever they lie and in whatever order.

    Args:
        hashes: Of the images.
        split: What they are called, for the log.
    """
    known, patients = load_patients()
    rows = np.searchsorted(known, hashes).clip(max=len(known) - 1)
    found = known[rows] == hashes
    if not found.any():
        return ImageNames()
    names = np.where(found, patients[rows], "").tolist()
    numberings = frozenset(name.partition("-")[0] for name in names if name)
    log.info(
        "%s: the patients of %s of %s images are known by the numbers in the names of Kermany's files: %s",
        split,
        f"{found.sum():,}",
        f"{len(hashes):,}",
        f"{len(set(names) - {''}):,}",
    )
    return ImageNames(patients=tuple(names), numberings=numberings)


@functools.cache
def load_patients() -> tuple[Hashes, Shaped[np.ndarray, " n"]]:
    """Hashes, ascending, and the patient of each."""
    with TABLE.open(encoding="ascii", newline="") as file:
        rows = [(row["patient"], row["images"].split()) for row in csv.DictReader(file)]
    digests = b"".join(bytes.fromhex(image) for _, images in rows for image in images)
    hashes = np.frombuffer(digests, f"<u{BYTES}").astype(np.uint64)
    patients = np.array([patient for patient, images in rows for _ in images])
    order = np.argsort(hashes)
    return hashes[order], patients[order]
