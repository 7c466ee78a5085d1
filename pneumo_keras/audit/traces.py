"""What an audit remembers of images: each is read once, a few at a time, and leaves some 3 kB behind."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.ndimage import gaussian_filter

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.images import LabelledImages, iterate_images

COMPARED_EDGE = 28  # larger images are averaged down to this before they are compared

# Wider structures, the outline of a chest, are alike in all children: with them the closest strangers
# reach 0.974 in PneumoniaMNIST and 0.983 in phantoms.
DETAIL_SIGMA = 1 / 14  # of the edge: 2 pixels of 28
BLANK = 1e-2  # grey levels; rounding leaves less than that of a blank image
DIGEST_BYTES = 8  # among a million images two different ones share a digest with odds of 1 to 37 million

MEASURES = ("mean grey", "contrast")

Digests = Int64[np.ndarray, " n"]
PerImage = Float64[np.ndarray, " n"]
Details = Float32[np.ndarray, "n height width"]


@dataclass(frozen=True)
class Place:
    """Where an image stands: the index counts from 0 within its split."""

    split: str
    index: int
    label: int


@dataclass(frozen=True)
class Traces:
    """What remains of the images of a split.

    Attributes:
        split: Its name.
        labels: Of the images.
        digests: The same for byte-identical images of the same height and width.
        exposure: Mean grey and contrast (standard deviation of the pixels) of each image, 0 to 255.
        details: Fine structure of the images averaged down, each with mean 0 and length 1.
    """

    split: str
    labels: Labels
    digests: Digests
    exposure: dict[str, PerImage]
    details: Details

    def to_place(self, index: int) -> Place:
        """Where an image stands."""
        return Place(self.split, index, int(self.labels[index]))


def choose_shape(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Height and width at which images of these shapes are compared, in pixels."""
    heights, widths = zip(*shapes, strict=True)
    return min(COMPARED_EDGE, *heights), min(COMPARED_EDGE, *widths)


def trace_images(split: str, source: LabelledImages, shape: tuple[int, int]) -> Traces:
    """Reads all images of a split, which must not be empty, and compares them at `shape` later."""
    parts = [
        (digest_images(images), *measure_exposure(images), to_details(images, shape))
        for images in iterate_images(source)
    ]
    digests, greys, contrasts, details = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Traces(
        split, source.labels, digests, dict(zip(MEASURES, (greys, contrasts), strict=True)), details
    )


def digest_images(images: Images) -> Digests:
    """A number for each image, from its shape and pixels."""
    shape = repr(images.shape[1:]).encode()
    digests = (hashlib.blake2b(shape + image.tobytes(), digest_size=DIGEST_BYTES) for image in images)
    return np.frombuffer(b"".join(digest.digest() for digest in digests), np.int64)


def measure_exposure(images: Images) -> tuple[PerImage, PerImage]:
    """Mean grey and contrast of each image, on the scale 0 to 255."""
    return images.mean(axis=(1, 2)), images.std(axis=(1, 2))


def to_details(images: Images, shape: tuple[int, int]) -> Float32[np.ndarray, "n small_height small_width"]:
    """The fine structure of images averaged down, with mean 0 and length 1; blank ones are next to 0."""
    rows, columns = (to_averaging(size, out) for size, out in zip(images.shape[1:], shape, strict=True))
    small = rows @ images.astype(np.float32) @ columns.T
    details = small - gaussian_filter(small, (0, shape[0] * DETAIL_SIGMA, shape[1] * DETAIL_SIGMA))
    details -= details.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt(np.square(details).sum(axis=(1, 2), keepdims=True))
    return details / np.maximum(lengths, BLANK)


def to_averaging(size: int, out: int) -> Float32[np.ndarray, "out size"]:
    """The matrix that averages `size` pixels to `out`, each by the share of it that is covered."""
    edges = np.linspace(0, size, out + 1)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(covered, 0) * out / size).astype(np.float32)
