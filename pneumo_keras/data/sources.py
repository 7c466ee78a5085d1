"""The table of sources: where images can come from, by the value of `data.source`.

A new source is a module with the function `open_images`, and a line in the table.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pneumo_keras.data.images import LabelledImages, Preparation

POSITIVE = "PNEUMONIA"
"""Default name of the class that is pneumonia."""

KERMANY = "kermany"
"""Instead of a pattern: patients by file names like those of Kermany et al., where there are such."""

CACHE_LIMIT = 20_000_000_000

NOBODY = "none"
"""Instead of a pattern: no patients by file names."""

UNKNOWN_LIMITS = (
    "Its results apply to images like those it was trained on. What they show, where they come from and who "
    "labelled them is unknown; other hospitals, ages and machines are untested.",
)
"""What not to conclude from images of the user."""


@dataclass(frozen=True)
class DataOptions:
    """The settings of the images.

    Attributes:
        path: A file or folder of the user.
        size: Height and width of the images in pixels.
        phantom_images: Phantom images in train, val and test.
        cache: The folder below which prepared images are kept.
        cache_limit: In bytes, of all that are kept there; the least recently used are removed first.
        positive: Name of the class that is pneumonia, for a folder.
        preparation: How other images are prepared that a run is evaluated on: as its training images.
        patient_pattern: Finds the patient in the name of a file, for a folder: a regular expression with one
            group, or one named `patient`; or `KERMANY` or `NOBODY`.
    """

    path: Path | None
    size: int
    phantom_images: tuple[int, int, int]
    cache: Path
    cache_limit: int = CACHE_LIMIT
    positive: str = POSITIVE
    preparation: Preparation | None = None
    patient_pattern: str = KERMANY


@dataclass(frozen=True)
class DataCard:
    """A description of the images; what is unknown is "".

    Attributes:
        title: In a few words, with the size.
        description: In a sentence or two.
        limits: Sentences for the model card: what not to conclude from these images.
        notice: A warning for those who compare results.
        licence: With its address.
        citation: BibTeX.
        synthetic: Whether a program drew them.
        medmnist_name: Name of the official file in MedMNIST's results, None for any other.
        files: SHA-256 of each file that is read, by file name.
        patients: How its splits share patients, in sentences.
    """

    title: str
    description: str
    limits: tuple[str, ...]
    notice: str = ""
    licence: str = ""
    citation: str = ""
    synthetic: bool = False
    medmnist_name: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    patients: str = ""


def describe_own(name: str, *, size: int, files: Mapping[str, str], notice: str = "") -> DataCard:
    """The card of images of the user, about which nothing else is recorded."""
    return DataCard(
        title=f"{name}, {size} px",
        description=f"The user's own images, {name}. What they show is unknown.",
        limits=UNKNOWN_LIMITS,
        notice=notice,
        files=files,
    )


@dataclass(frozen=True)
class ImageNames:
    """What is known of each image of a split, in their order.

    Attributes:
        files: Name of the file of each image, as the user named it; None where they are not single files.
        patients: The patient of each, "" where unknown; None where all are.
        numberings: Series of patient numbers that these are from. Only within one series are different
            numbers different patients: test images of Kermany et al. are numbered from 1 again.
        columns: The further columns of a CSV, by name: the value of each image, "" where it is missing.
    """

    files: tuple[str, ...] | None = None
    patients: tuple[str, ...] | None = None
    numberings: frozenset[str] = frozenset({""})
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Images that were found.

    Attributes:
        card: What they are.
        open_split: Opens `train`, `val` or `test`, and that split alone.
        find_preparation: Finds how its images were prepared, so that others can be prepared in the same way.
        open_all: Opens all images as one set; None where they come in splits.
        hash_listing: SHA-256 of names, sizes, times and labels of a split's files, without reading them:
            images that change have another. None where images are not single files.
        name_images: What is known of each image of a split; of None, of all images as one set.
    """

    card: DataCard
    open_split: Callable[[str], LabelledImages]
    find_preparation: Callable[[], Preparation]
    open_all: Callable[[], LabelledImages] | None = None
    hash_listing: Callable[[str], str] | None = None
    name_images: Callable[[str | None], ImageNames] = lambda _: ImageNames()


@dataclass(frozen=True)
class Source:
    """A module with a function `open_images`, and whether it takes or needs `data.path`.

    The module is imported on its first use, since the table is read for its names, too.
    """

    module: str
    takes_path: bool = False
    needs_path: bool = False

    def open(self, options: DataOptions) -> DataSet:
        """Finds the images, and fetches them if necessary; see the modules for what they raise."""
        return importlib.import_module(self.module).open_images(options)


SOURCES: Mapping[str, Source] = {
    "pneumonia_mnist": Source("pneumo_keras.data.pneumonia_mnist", takes_path=True),
    "folder": Source("pneumo_keras.data.folder", takes_path=True, needs_path=True),
    "phantom": Source("pneumo_keras.data.phantom"),
}
