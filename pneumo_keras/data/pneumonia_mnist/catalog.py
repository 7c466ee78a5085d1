"""Facts about PneumoniaMNIST: medmnist's record, what that lacks, and the patients of the images.

`patients.csv` has a line for each patient, with the hashes of the images at 28 px; other sizes are not
matched. Patients are the numbers in the names of the files that Kermany et al. published; each file was
matched with its image. The patients of 85 images are unknown, 67 of them normal test images. Test images are
numbered from 1 again: whether their patients have training or validation images, too, is unknown.
"""

import csv
import functools
import logging
import runpy
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pneumo_keras.data.download import Release
from pneumo_keras.data.overlap import BYTES, Hashes
from pneumo_keras.data.sources import DataCard, ImageNames
from pneumo_keras.errors import DataError

log = logging.getLogger("pneumo_keras")

DATA_SET = "pneumonia_mnist"
VERSION = "2.0.0"  # of the prepared images: raised with every change of what is written
SIZES = (28, 64, 128, 224)
MATCHED_SIZE = 28  # of the images whose patients were matched
PATIENTS = Path(__file__).with_name("patients.csv")
CITATION = """\
@article{medmnistv2,
  title   = {{MedMNIST} v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image
             classification},
  author  = {Yang, Jiancheng and Shi, Rui and Wei, Donglai and Liu, Zequan and Zhao, Lin and
             Ke, Bilian and Pfister, Hanspeter and Ni, Bingbing},
  journal = {Scientific Data},
  volume  = {10},
  number  = {1},
  pages   = {41},
  year    = {2023}
}
@article{kermany2018,
  title   = {Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning},
  author  = {Kermany, Daniel S. and Goldbaum, Michael and others},
  journal = {Cell},
  volume  = {172},
  number  = {5},
  pages   = {1122--1131},
  year    = {2018}
}
"""
# Normal and pneumonia images of the official file, at every size.
CLASS_COUNTS = {"train": (1214, 3494), "val": (135, 389), "test": (234, 390)}
# The training split of a popular copy that lost two thirds of its normal images.
PARTIAL_TRAIN_COUNTS = (388, 3494)
OFFICIAL_BYTES = {28: 4_170_669}  # those of the other sizes are not published
SPARE_BYTES = 1 << 20  # of a file, beyond its images before they were compressed


@functools.cache
def load_medmnist_record() -> dict[str, Any]:
    """`medmnist.INFO["pneumoniamnist"]`: addresses, checksums, split sizes, labels, licence.

    The module that defines it runs alone. The package around it imports torch where there is one
    and prints a line to stdout where there is none.
    """
    module = metadata.distribution("medmnist").locate_file("medmnist/info.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where the home folder cannot be written
        return runpy.run_path(str(module))["INFO"]["pneumoniamnist"]


def load_release(size: int) -> Release:
    """The official file with images of `size` pixels.

    Raises:
        DataError: There is none of that size.
    """
    if size not in SIZES:
        raise DataError(f"data.size must be one of {', '.join(map(str, SIZES))}. Received: {size}.")
    suffix = "" if size == 28 else f"_{size}"
    record = load_medmnist_record()
    return Release(
        title=f"PneumoniaMNIST at {size} px",
        name=f"pneumoniamnist{suffix}.npz",
        url=record[f"url{suffix}"],
        md5=record[f"MD5{suffix}"],
        most=sum(map(sum, CLASS_COUNTS.values())) * size**2 + SPARE_BYTES,
        bytes=OFFICIAL_BYTES.get(size),
    )


def load_licence() -> str:
    """The licence of the images, with its address."""
    return f"{load_medmnist_record()['license']}, https://creativecommons.org/licenses/by/4.0/"


def describe_official(release: Release, files: Mapping[str, str], *, size: int) -> DataCard:
    """The card of the published file; `files` has its SHA-256 by its name."""
    fitted = map(sum, zip(CLASS_COUNTS["train"], CLASS_COUNTS["val"], strict=True))
    return DataCard(
        title=f"PneumoniaMNIST, {size} px",
        description="Chest images of children, published by MedMNIST.",
        limits=(
            "The images are of children of 1 to 5 years from one hospital. It is not for adults; other "
            "hospitals and machines are untested.",
            "Labels are what physicians read from the images, not proven diagnoses. A third physician "
            "checked those of the test images.",
            f"Normal images are {_to_percent(*fitted)} of the official training and validation images, but "
            f"{_to_percent(*CLASS_COUNTS['test'])} of the test images: scores and thresholds do not carry "
            "over unchanged.",
            "Validation images are a random slice of the training images, and easier than the test images.",
        ),
        licence=load_licence(),
        citation=CITATION,
        medmnist_name=release.name.removesuffix(".npz"),
        files=files,
    )


def describe_difference(name: str, md5: str, release: Release, counts: Mapping[str, tuple[int, int]]) -> str:
    """A warning about results from a file that is not the published one.

    Args:
        name: Of the file.
        md5: Of the file.
        release: The published one.
        counts: Normal and pneumonia images of the file's splits.
    """
    official = {split: CLASS_COUNTS[split] for split in counts}
    if counts == official:
        result = (
            "Those are the class counts of the official file, so it may be a copy in another order, but its "
            "results are not results on the official file"
        )
    else:
        result = f"The class counts of the official file are others ({_list_counts(official)})"
        if counts["train"] == PARTIAL_TRAIN_COUNTS:
            result = "It is the popular partial copy with 3,882 training images (388 normal)"
        result += ": results are not comparable with published ones"
    return (
        f"{name} is not the official file of {release.title}, and is used as it is: {_list_counts(counts)}. "
        f"{result}. Its MD5 is {md5}, that of the official file {release.md5}."
    )


def _list_counts(counts: Mapping[str, tuple[int, int]]) -> str:
    return "; ".join(
        f"{split} {normal:,} normal, {ill:,} pneumonia" for split, (normal, ill) in counts.items()
    )


def _to_percent(normal: int, pneumonia: int) -> str:
    return f"{100 * normal / (normal + pneumonia):.1f} %"


def find_patients(hashes: Hashes, *, split: str) -> ImageNames:
    """The patients of images by their hashes, in any file and order; `split` is for the log."""
    known, patients = load_patients()
    rows = np.searchsorted(known, hashes).clip(max=len(known) - 1)
    found = known[rows] == hashes
    if not found.any():
        return ImageNames()
    names = np.where(found, patients[rows], "").tolist()
    log.info(
        "%s: the patients of %s of %s images are known by the numbers in the names of Kermany's files: %s",
        split,
        f"{found.sum():,}",
        f"{len(hashes):,}",
        f"{len(set(names) - {''}):,}",
    )
    numberings = frozenset(name.partition("-")[0] for name in names if name)
    return ImageNames(patients=tuple(names), numberings=numberings)


@functools.cache
def load_patients() -> tuple[Hashes, Shaped[np.ndarray, " n"]]:
    """Hashes, ascending, and the patient of each."""
    with PATIENTS.open(encoding="ascii", newline="") as file:
        rows = [(row["patient"], row["images"].split()) for row in csv.DictReader(file)]
    digests = b"".join(bytes.fromhex(image) for _, images in rows for image in images)
    hashes = np.frombuffer(digests, f"<u{BYTES}").astype(np.uint64)
    patients = np.array([patient for patient, images in rows for _ in images])
    order = np.argsort(hashes)
    return hashes[order], patients[order]
