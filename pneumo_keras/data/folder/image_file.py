"""A file with an image, what is stated of it, and names of classes as labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_keras.arrays import Labels
from pneumo_keras.errors import DataError

SPLIT_WORDS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
"""What splits are called by those who make folders, in letters of any case."""

NORMAL = "normal"  # in any case: the class of images without pneumonia, where they stand alone


@dataclass(frozen=True)
class ImageFile:
    """A file with an image, and what is stated of it.

    Attributes:
        path: Of the file.
        name: The same for people, from the folder or the table on.
        label: Name of its class.
        split: Its split; "" where none is stated.
        patient: Whose image it is; "" where nobody says.
        numbering: That the patient is of: patients of two numberings are not known to be others.
    """

    path: Path
    name: str
    label: str
    split: str = ""
    patient: str = ""
    numbering: str = ""


def to_split(name: str) -> str | None:
    """The split that a folder or a cell of a table means; None for any other word."""
    return SPLIT_WORDS.get(name.strip().casefold())


def to_labels(files: Sequence[ImageFile], *, positive: str, place: str, may_lack: bool = False) -> Labels:
    """0 (the other class, whatever its name) or 1 (the positive class) for each image.

    Args:
        files: With the names of their classes.
        positive: Name of the class that is pneumonia.
        place: Where the images are, for the message.
        may_lack: Whether images of one class do, as they do for an evaluation: the positive one, or one
            that is called normal.

    Raises:
        DataError: There are not two classes, or the positive one is not among them.
    """
    counts = Counter(file.label for file in files)
    found = ", ".join(f"{label} ({count:,})" for label, count in sorted(counts.items())) or "no images"
    if may_lack and len(counts) == 1:
        (label,) = counts
        if label != positive and label.casefold() != NORMAL:
            raise DataError(
                f"{place} holds images of one class, which must be the one that data.positive names, "
                f"{positive}, or be called NORMAL. Received: {found}. Name it with --positive if it is "
                "pneumonia, or call it NORMAL."
            )
    elif len(counts) != 2:
        raise DataError(
            f"{place} must hold images of two classes, in folders with their names or in the column label. "
            f"Received: {found}. Keep two, and name the one that is pneumonia with data.positive."
        )
    elif positive not in counts:
        raise DataError(
            f"{place} must hold the class that data.positive names, {positive}. Received: {found}. "
            "Set data.positive, or --positive of eval, to the one that is pneumonia."
        )
    return np.array([file.label == positive for file in files], np.int64)
