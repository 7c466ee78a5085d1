#!/usr/bin/env python3
"""Writes data/pneumonia_mnist/patients.csv of the package: a line a patient, hashes of the images at 28 px.

    make_patient_table.py IMAGES.csv PNEUMONIAMNIST.npz OUT.csv

IMAGES.csv has a line for each image of the npz: its split, its index there, and its patient, "" where that is
unknown. It was found by matching the files that Kermany et al. published with the images at 28 px.
"""

import csv
import hashlib
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

DIGEST_BYTES = 8  # as in pneumo_keras.data.overlap


def format_table(images: Path, npz: Path) -> str:
    arrays = np.load(npz)
    arrays = {split: arrays[f"{split}_images"] for split in ("train", "val", "test")}
    hashes = defaultdict(set)
    with images.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["patient"]:
                pixels = arrays[row["split"]][int(row["index"])].tobytes()
                hashes[row["patient"]].add(hashlib.blake2b(pixels, digest_size=DIGEST_BYTES).hexdigest())
    lines = [f"{patient},{' '.join(sorted(hashes[patient]))}" for patient in sorted(hashes)]
    return "\n".join(["patient,images", *lines]) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    images, npz, out = map(Path, sys.argv[1:])
    out.write_text(format_table(images, npz))
