"""The table of sources: where images can come from, by the name that `data.source` gives them.

A new source is a module with the two functions of `Source`, and a line in the table.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pneumo_keras.data.images import LabelledImages, Preparation

POSITIVE = "PNEUMONIA"
"""Name of the class that is pneumonia, where nobody says otherwise."""

KERMANY = "kermany"
"""Instead of a pattern: files are called as Kermany et al. call theirs, or they tell no patient."""

CACHE_LIMIT = 20_000_000_000

NOBODY = "none"
"""Instead of a pattern: names of files tell no patient."""

UNKNOWN_LIMITS = (
    "It knows images like those it was trained on. What they show, where they come from and who "
    "evaluated them is not known to this program; other hospitals, ages and machines are untried.",
)
"""What not to conclude from images of the user's own."""


@dataclass(frozen=True)
class DataOptions:
    """What the settings say of the images.

    Attributes:
        path: A file or folder of the user's own.
        size: Height and width of the images in pixels.
        phantom_images: Phantom images in train, val and test.
        cache: The folder below which prepared images are kept.
        cache_limit: In bytes, of all that are kept there.
        positive: Name of the class that is pneumonia, for a source whose classes have names.
        preparation: Of the images that they are to be like; None where they are the first.
        patient_pattern: What finds the patient in the name of a file, for a source of files: a regular
            expression with one group, or one called `patient`; `kermany` for the names of `chest_xray`,
            `none` for nothing.
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
    """What the images are, for people.

    Attributes:
        title: In a few words, with the size.
        description: In a sentence or two.
        limits: Sentences for the model card: what not to conclude from these images.
        notice: What a reader must know before comparing results; "" if nothing.
        licence: With its address; "" where unknown.
        citation: BibTeX; "" where unknown.
        synthetic: Whether a program drew them.
        medmnist_name: What MedMNIST calls the official file in names of results, None for any other.
        files: SHA-256 of each file that is read, by file name.
        patients: How its splits share patients, in sentences; "" where nothing is known of that.
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


@dataclass(frozen=True)
class Listing:
    """What is known of the images of a split before they are read.

    Attributes:
        sha256: Of all that tells them from others: images that change have another.
        class_counts: Normal and pneumonia images.
    """

    sha256: str
    class_counts: tuple[int, int]


@dataclass(frozen=True)
class ImageNames:
    """What is known of each image of a split, in their order.

    Attributes:
        files: Name of the file of each image, as its user knows it; None where all lie in one, or in none.
        patients: Whose image it is, "" where that is unknown; None where nothing is known of any.
        numberings: That these patients are of. Patients of two splits are known to be the same or others
            where both are of one numbering, and the same.
    """

    files: tuple[str, ...] | None = None
    patients: tuple[str, ...] | None = None
    numberings: frozenset[str] = frozenset({""})


@dataclass(frozen=True)
class DataSet:
    """Images that were found.

    Attributes:
        card: What they are.
        open_split: Opens `train`, `val` or `test`, and that split alone.
        find_preparation: Finds how its images were prepared, so that others can be prepared alike.
        open_whole: Opens all images as one set; None where they come in splits.
        list_split: Lists a split without reading its images; None where they all lie in one file, or in none.
        name_images: What is known of each image of a split; of None, of all images as one set.
    """

    card: DataCard
    open_split: Callable[[str], LabelledImages]
    find_preparation: Callable[[], Preparation]
    open_whole: Callable[[], LabelledImages] | None = None
    list_split: Callable[[str], Listing] | None = None
    name_images: Callable[[str | None], ImageNames] = lambda _: ImageNames()


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes:
        open: Finds the images, fetching them if need be. Raises DataError.
        is_at_hand: Whether they can be opened without a download.
        takes_path: Whether `data.path` may name images of the user's own.
        needs_path: Whether it must.
    """

    open: Callable[[DataOptions], DataSet]
    is_at_hand: Callable[[DataOptions], bool]
    takes_path: bool
    needs_path: bool = False


def _defer(module: str, *, takes_path: bool, needs_path: bool = False) -> Source:
    """A source whose module is imported on its first use: the table is read for its names, too."""
    return Source(
        open=lambda options: importlib.import_module(module).open_images(options),
        is_at_hand=lambda options: importlib.import_module(module).is_at_hand(options),
        takes_path=takes_path,
        needs_path=needs_path,
    )


SOURCES: Mapping[str, Source] = {
    "pneumonia_mnist": _defer("pneumo_keras.data.pneumonia_mnist", takes_path=True),
    "folder": _defer("pneumo_keras.data.folder", takes_path=True, needs_path=True),
    "phantom": _defer("pneumo_keras.data.phantom", takes_path=False),
}
