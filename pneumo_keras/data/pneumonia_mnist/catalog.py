"""Facts about PneumoniaMNIST: medmnist's own record of it, and what that record lacks."""

import functools
import runpy
import warnings
from importlib import metadata
from typing import Any

from pneumo_keras.data.download import Release
from pneumo_keras.data.preparation import Edition
from pneumo_keras.errors import DataError

SIZES = (28, 64, 128, 224)

RELEASE_NOTES = {
    "1.1.0": "Beside the images: all labels in one file, the fingerprint of the pixels.",
    "1.0.0": "The files of MedMNIST 3: 28, 64, 128 and 224 px, splits train, val and test.",
}
"""Of the prepared data set, the newest version first."""

HOMEPAGE = "https://medmnist.com"
LICENCE_ADDRESS = "https://creativecommons.org/licenses/by/4.0/"
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

# Known for the 28 px file alone; the makers publish MD5 only.
BYTES = {28: 4_170_669}
SPARE_BYTES = 1 << 20  # of a file, beyond its images before they were compressed
SHA256 = {28: "e1792d3f03751cb101e99f19a63b3c1941436c988665f47853417b05be250cd8"}


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
        bytes=BYTES.get(size),
        sha256=SHA256.get(size),
        most=sum(map(sum, CLASS_COUNTS.values())) * size**2 + SPARE_BYTES,
    )


def load_licence() -> str:
    """The licence of the images, with its address."""
    return f"{load_medmnist_record()['license']}, {LICENCE_ADDRESS}"


def load_description() -> str:
    """What the images show and where they come from."""
    return load_medmnist_record()["description"]


def describe_edition() -> Edition:
    """What the prepared images are called, and what is told of them beside."""
    return Edition(
        name="pneumonia_mnist",
        version=next(iter(RELEASE_NOTES)),
        release_notes=RELEASE_NOTES,
        description=load_description(),
        homepage=HOMEPAGE,
        citation=CITATION,
        licence=load_licence(),
    )
