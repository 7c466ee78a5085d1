"""Random variation of films: one affine warp of a film's own pixels, then gamma, brightness, contrast.

The warp enlarges and turns in one step, on the host: the same bytes on every backend, and a film's draws
depend on nothing but their key.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

Fill = Literal["black", "mirror"]
"""What stands where a film does not reach: nothing, or the film once more, mirrored at its edges."""

Affine = Float64[np.ndarray, "2 3"]
"""From a place in the image to one in the film, both (x, y) from -0.5 to 0.5 about the centre."""


CORNERS = np.array([[x, y, 1] for x in (-0.5, 0.5) for y in (-0.5, 0.5)]).T


@dataclass(frozen=True)
class Ranges:
    """How far films may vary; everything is drawn uniformly, factors in their logarithm.

    Attributes:
        rotation_degrees: Turned by up to this, either way.
        horizontal_flip: Mirrored half of the time.
        zoom: Enlarged or shrunk by up to this factor, at least 1.
        aspect: Stretched by up to this factor along one axis against the other, at least 1.
        shift: Moved along each axis by up to this share of the film's edge.
        gamma: Grey levels g, as shares of white, become g to the power of up to this or its inverse; at
            least 1.
        brightness: Shifted by up to this share of the range from black to white.
        contrast: Stretched about the image's mean by a factor of 1 plus or minus up to this.
        fill: What a warp uncovers.
    """

    rotation_degrees: float = 0.0
    horizontal_flip: bool = False
    zoom: float = 1.0
    aspect: float = 1.0
    shift: float = 0.0
    gamma: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    fill: Fill = "black"


@dataclass(frozen=True)
class Variation:
    """What is done to one film; the defaults leave it alone.

    Attributes:
        affine: Where in the film each place of the image comes from.
        gamma: Power of the grey levels.
        brightness: Share of the range that is added.
        contrast: Factor about the image's mean.
        fill: What stands beyond the film.
    """

    affine: Affine = field(default_factory=lambda: np.eye(2, 3))
    gamma: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0
    fill: Fill = "black"

    def mirror(self) -> "Variation":
        """The same, and its image mirrored from left to right."""
        return replace(self, affine=self.affine * [-1, 1, 1])


def draw_variation(ranges: Ranges, key: Sequence[int]) -> Variation:
    """Draws how one film is varied.

    Args:
        ranges: How far it may be.
        key: The same numbers, the same draws: such as seed, view and row of the film.
    """
    draws = iter(np.random.default_rng(key).uniform(-1, 1, 9).tolist())

    def draw_factor(largest: float) -> float:
        return largest ** next(draws)

    angle = math.radians(ranges.rotation_degrees * next(draws))
    zoom, stretch = draw_factor(ranges.zoom), draw_factor(ranges.aspect) ** 0.5
    move = ranges.shift * np.array([next(draws), next(draws)])
    mirror = -1.0 if ranges.horizontal_flip and next(draws) < 0 else 1.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.diag([mirror / (zoom * stretch), stretch / zoom]) @ turn
    return Variation(
        np.column_stack([matrix, -matrix @ move]),
        gamma=draw_factor(ranges.gamma),
        brightness=ranges.brightness * next(draws),
        contrast=1 + ranges.contrast * next(draws),
        fill=ranges.fill,
    )


def vary_films(
    films: UInt8[np.ndarray, "n height width"] | Float32[np.ndarray, "n height width"],
    variations: Sequence[Variation],
    size: int,
) -> Float32[np.ndarray, "n size size"]:
    """Images of films, each varied in its own way.

    Args:
        films: 0 (black) to 255 (white), no larger than the images, or the warp would skip pixels.
        variations: One for each film.
        size: Height and width of the images in pixels.
    """
    images = np.empty((len(films), size, size), np.float32)
    for image, film, variation in zip(images, films, variations, strict=True):
        image[:] = _warp(film, variation, size)
        _grade(image, variation)
    return images


def _grade(image: Float32[np.ndarray, "size size"], variation: Variation) -> None:
    """Changes the grey levels in place: one image at a time stays in the processor's cache."""
    if variation.gamma != 1:
        image[:] = 255 * (image / 255) ** np.float32(variation.gamma)
    if variation.brightness:
        image += np.float32(255 * variation.brightness)
        np.clip(image, 0, 255, out=image)
    if variation.contrast != 1:
        mean = image.mean()
        image -= mean
        image *= np.float32(variation.contrast)
        image += mean
        np.clip(image, 0, 255, out=image)


def _warp(film: np.ndarray, variation: Variation, size: int) -> Float32[np.ndarray, "size size"]:
    """Bilinear, so that without any variation it is the model's own enlargement."""
    edges = np.array(film.shape)[::-1, None]  # (x, y), as everything in here
    pads = np.zeros_like(edges)
    if variation.fill == "mirror":
        reach = np.abs(variation.affine @ CORNERS).max(axis=1, keepdims=True)
        pads = np.ceil(np.maximum(reach - 0.5, 0) * edges).astype(int) + 1
        film = np.pad(film, [(pad, pad) for pad in pads[::-1, 0]], mode="symmetric")
    # Pillow maps pixels to pixels, both counted from a corner.
    matrix, offset = variation.affine[:, :2], variation.affine[:, 2:]
    corner = edges * (offset + 0.5 - matrix.sum(axis=1, keepdims=True) / 2) + pads
    coefficients = np.hstack([edges * matrix / size, corner]).ravel().tolist()
    image = Image.fromarray(film.astype(np.float32)).transform(
        (size, size), Image.Transform.AFFINE, tuple(coefficients), resample=Image.Resampling.BILINEAR
    )
    return np.asarray(image)
