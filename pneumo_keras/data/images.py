"""Sets of images, of which any rows are read when needed: a million images are never in memory at once."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer

from pneumo_keras.arrays import Images, Labels

AT_ONCE = 256  # images that are read together where all are read

Rows = slice | Integer[np.ndarray, " rows"]
"""Indices of images, or a slice."""


@dataclass(frozen=True)
class Preparation:
    """How images are prepared, those of a training and all others that its classifier is used on.

    Attributes:
        size: Height and width in pixels.
        jpeg_quality: Quality of the JPEG file that each was saved to and read from; None without one.
    """

    size: int
    jpeg_quality: int | None = None

    def describe(self) -> str:
        """Human-readable, in half a sentence."""
        saved = f", saved as JPEG of quality {self.jpeg_quality}" if self.jpeg_quality else ""
        return f"the square in the middle, antialiased bilinear to {self.size} x {self.size} px{saved}"


@runtime_checkable
class ImageSet(Protocol):
    """A set of images of one size, with or without labels."""

    def __len__(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every image in pixels."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 of all pixels in their order, or of all that they are made from."""
        ...

    def read(self, rows: Rows) -> Images:
        """The images of these rows, 0 (black) to 255 (white), in the order of the rows."""
        ...


@runtime_checkable
class LabelledImages(ImageSet, Protocol):
    """Images with a label each."""

    @property
    def labels(self) -> Labels:
        """Labels of all images, in their order."""
        ...


@dataclass(frozen=True)
class JoinedImages:
    """Several sets of images of one size, concatenated."""

    parts: Sequence[LabelledImages]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.parts[0].shape

    def fingerprint(self) -> str:
        """SHA-256 over the fingerprints of the parts."""
        return hashlib.sha256("".join(part.fingerprint() for part in self.parts).encode()).hexdigest()

    @property
    def labels(self) -> Labels:
        """Labels of all images."""
        return np.concatenate([part.labels for part in self.parts])

    def read(self, rows: Rows) -> Images:
        """The images of these rows."""
        indices = np.arange(len(self))[rows]
        images = np.empty((len(indices), *self.shape), np.uint8)
        start = 0
        for part in self.parts:
            inside = (indices >= start) & (indices < start + len(part))
            if inside.any():
                images[inside] = part.read(indices[inside] - start)
            start += len(part)
        return images


def iterate_images(images: ImageSet, at_once: int = AT_ONCE) -> Iterator[Images]:
    """All images in their order, some at a time."""
    for start in range(0, len(images), at_once):
        yield images.read(slice(start, start + at_once))


def start_hash(shape: tuple[int, int, int]) -> Any:
    """SHA-256 of images of a shape (n, height, width), to be updated with their pixels."""
    return hashlib.sha256(str(shape).encode())


def hash_labels(labels: Labels) -> str:
    """SHA-256 over labels in their order: images that were labelled again have another value."""
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def count_classes(labels: Labels) -> tuple[int, int]:
    """Counts of normal and pneumonia images."""
    pneumonia = int(labels.sum())
    return len(labels) - pneumonia, pneumonia
