"""What surrounds the frozen network when images are scored, in NumPy: resizing, scaling and the head.

The same as the layers of the classifier except for rounding, and nothing of Keras is imported. What is known
of the network itself without it, its feature layers, is here as well.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, Num, UInt8

from pneumo_keras.arrays import Features, ImageBatch, LogOdds

Moments = Float[np.ndarray, "*members d"]
"""Of the features (d), or of those that each member learns from (members, d)."""

POOLED = "_pooled"  # ends the name of a layer that averages the maps of a feature layer
GREY_SCALE, GREY_OFFSET = 1 / 127.5, -1.0  # from 0..255 to what the backbone sees


def resize_images(
    images: Num[np.ndarray, "n _height _width"], size: int
) -> Float32[np.ndarray, "n {size} {size}"]:
    """Bilinear and antialiased, as Keras and Pillow resize: what shrinks is averaged, and not sampled."""
    down, across = (_build_weights(length, size) for length in images.shape[1:])
    return down @ images.astype(np.float32) @ across.T


@functools.cache
def _build_weights(source: int, target: int) -> Float32[np.ndarray, "{target} {source}"]:
    """The weights of the old pixels in the new ones, along one side of an image."""
    ratio = source / target
    centres = (np.arange(target) + 0.5) * ratio - 0.5
    gaps = np.abs(centres[:, None] - np.arange(source))
    weights = np.maximum(0, 1 - gaps / max(ratio, 1))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def scale_images(images: Float32[np.ndarray, "n size size"]) -> ImageBatch:
    """Grey images, 0 (black) to 255 (white), as the network takes them: three channels in [-1, 1]."""
    return np.repeat((images * GREY_SCALE + GREY_OFFSET)[..., None], 3, axis=-1)


def list_views(
    images: UInt8[np.ndarray, "n _height _width"], size: int, *, flip_average: bool
) -> Iterator[ImageBatch]:
    """Images as a network of this image size takes them, then mirrored if log odds are averaged over both."""
    scaled = scale_images(resize_images(images, size))
    yield scaled
    if flip_average:
        yield np.ascontiguousarray(scaled[:, :, ::-1])


@dataclass(frozen=True)
class Axis:
    """Where the cells of a map are along one side of the image, in pixels of the image.

    `first` is the centre of the first cell's field of view, 0 that of the first pixel; `step` is the distance
    of the centres of two cells.
    """

    first: float = 0.0
    step: float = 1.0

    def slide(self, *, size: int, window: int, step: int, padded: bool) -> "Axis":
        """The cells behind a window that slides by `step` over these `size` cells, padded or not."""
        lacking = (math.ceil(size / step) - 1) * step + window - size if padded else 0
        before = max(lacking, 0) // 2
        return Axis(self.first + self.step * ((window - 1) / 2 - before), self.step * step)


@dataclass(frozen=True)
class PooledLayer:
    """A feature layer of the frozen network.

    Attributes:
        d: Number of its features, each the mean of a map.
        fingerprint: Of all operations and weights up to it.
        shape: Height and width of its maps, in cells.
        down: Where the cells are from top to bottom.
        across: Where they are from left to right.
    """

    d: int
    fingerprint: str
    shape: tuple[int, int]
    down: Axis
    across: Axis


def bound_variance(variance: Moments) -> Moments:
    """The variance with a lower bound: a feature that hardly varies is not amplified.

    What is far below the average counts as a thousandth of its standard deviation.
    """
    floor = 1e-6 * variance.mean(axis=-1, keepdims=True)
    return np.maximum(variance, np.where(floor > 0, floor, 1.0))


@dataclass(frozen=True)
class MemberLayer:
    """For each member values @ kernel + bias, then ReLU or nothing."""

    kernels: Float64[np.ndarray, "members inputs outputs"]
    biases: Float64[np.ndarray, "members outputs"]
    relu: bool


@dataclass(frozen=True)
class HeadMembers:
    """A head as matrices, exact and in float64, from features (n, d) to log odds (n, members).

    Attributes:
        shift: Taken from the features first; zeros if nothing is. Not folded into the biases: these would
            become differences of large numbers.
        layers: One after the other, the last with one output.
    """

    shift: Float64[np.ndarray, " d"]
    layers: tuple[MemberLayer, ...]

    def compute_log_odds(self, features: Features) -> LogOdds:
        """Log odds of pneumonia, of each member."""
        values = features - self.shift
        for layer in self.layers:
            values = values @ layer.kernels + layer.biases[:, None]
            values = np.maximum(values, 0) if layer.relu else values
        return values[..., 0].T.astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes an npz file."""
        layers = enumerate(self.layers)
        arrays = {f"{name}_{index}": value for index, one in layers for name, value in vars(one).items()}
        np.savez(path, shift=self.shift, **arrays)


def load_head(path: Path) -> HeadMembers:
    """Reads what `HeadMembers.save` wrote."""
    with np.load(path) as file:
        count = sum(name.startswith("kernels_") for name in file)
        layers = [
            MemberLayer(file[f"kernels_{index}"], file[f"biases_{index}"], bool(file[f"relu_{index}"]))
            for index in range(count)
        ]
        return HeadMembers(file["shift"], tuple(layers))
