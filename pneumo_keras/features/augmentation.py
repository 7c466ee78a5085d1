"""Augmentation: images as other acquisition and other files might have given them.

First what a camera and a file do to grey levels, at the image's own size: exposure, resizing kernel, noise,
JPEG. Then one affine warp, which enlarges and turns in one step. All of it on the host: the same bytes on
every backend, and an image's draws depend only on their key.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from pneumo_keras.data.image_preparation import save_as_jpeg

Fill = Literal["black", "mirror"]
"""What fills the pixels outside an image: nothing, or the image mirrored at its edges."""

FillRange = Literal["black", "mirror", "either"]
"""The same for all images, or drawn for each."""

Affine = Float64[np.ndarray, "2 3"]
"""From a point of the new image to one of the old one, both (x, y) from -0.5 to 0.5 about the centre."""

CORNERS = np.array([[x, y, 1] for x in (-0.5, 0.5) for y in (-0.5, 0.5)]).T
HIGHEST_QUALITY = 95  # of JPEG: Pillow advises against more, which hardly differs from none


@dataclass(frozen=True)
class AugmentationRanges:
    """How far images may be changed; everything is drawn uniformly, factors in their logarithm.

    Attributes:
        rotation_degrees: Turned by up to this, either way.
        horizontal_flip: Mirrored half of the time.
        zoom: Enlarged or shrunk by up to this factor, at least 1.
        aspect: Stretched by up to this factor along one axis against the other, at least 1.
        shift: Moved along each axis by up to this share of the image's edge.
        gamma: Grey levels g, as shares of white, become g to the power of up to this or its inverse; at
            least 1.
        brightness_factor: Grey levels are multiplied by up to this or its inverse; at least 1.
        brightness: Shifted by up to this share of the range from black to white.
        contrast: Stretched about the image's mean by a factor of 1 plus or minus up to this.
        sharpness: The difference to the mean of 3 x 3 pixels is enlarged or diminished by up to this share,
            as other resizing kernels do.
        noise: Normal noise whose standard deviation is up to this share of the range.
        jpeg_quality: Saved as JPEG half of the time, of a quality from this to 95; 100 for never.
        fill: What a warp uncovers.
    """

    rotation_degrees: float = 0.0
    horizontal_flip: bool = False
    zoom: float = 1.0
    aspect: float = 1.0
    shift: float = 0.0
    gamma: float = 1.0
    brightness_factor: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    sharpness: float = 0.0
    noise: float = 0.0
    jpeg_quality: int = 100
    fill: FillRange = "black"


@dataclass(frozen=True)
class Augmentation:
    """What is done to one image, see `AugmentationRanges`; the defaults leave it as it is.

    Attributes:
        affine: Map from points of the new image to those of the old one.
        contrast: Factor about the image's mean.
        jpeg_quality: With which it is saved; None for not at all.
    """

    affine: Affine = field(default_factory=lambda: np.eye(2, 3))
    gamma: float = 1.0
    brightness_factor: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0
    sharpness: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0
    jpeg_quality: int | None = None
    fill: Fill = "black"

    def mirror(self) -> "Augmentation":
        """The same, and its image mirrored from left to right."""
        return replace(self, affine=self.affine * [-1, 1, 1])


def draw_augmentation(ranges: AugmentationRanges, key: Sequence[int]) -> Augmentation:
    """Draws what is done to one image; the same key, such as seed, view and row, gives the same draws."""
    random = np.random.default_rng(key)
    draws = iter(random.uniform(-1, 1, 15).tolist())

    def draw_factor(largest: float) -> float:
        return largest ** next(draws)

    # Arguments are evaluated in their order, and so are the draws.
    return Augmentation(
        build_affine(
            angle=math.radians(ranges.rotation_degrees * next(draws)),
            zoom=draw_factor(ranges.zoom),
            stretch=draw_factor(ranges.aspect) ** 0.5,
            move=(ranges.shift * next(draws), ranges.shift * next(draws)),
            mirrored=ranges.horizontal_flip and next(draws) < 0,
        ),
        gamma=draw_factor(ranges.gamma),
        brightness=ranges.brightness * next(draws),
        contrast=1 + ranges.contrast * next(draws),
        brightness_factor=draw_factor(ranges.brightness_factor),
        sharpness=ranges.sharpness * next(draws),
        noise=ranges.noise * abs(next(draws)),
        jpeg_quality=_choose_quality(ranges.jpeg_quality, next(draws), next(draws)),
        noise_seed=int(random.integers(2**32)),
        fill=_choose_fill(ranges.fill, next(draws)),
    )


def build_affine(
    *,
    angle: float = 0.0,
    zoom: float = 1.0,
    stretch: float = 1.0,
    move: tuple[float, float] = (0.0, 0.0),
    mirrored: bool = False,
) -> Affine:
    """The warp that turns, enlarges, moves and mirrors an image.

    The angle is in radians, the stretch a factor along x and its inverse along y, the move shares of the edge
    along x and y.
    """
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.diag([(-1.0 if mirrored else 1.0) / (zoom * stretch), stretch / zoom]) @ turn
    return np.column_stack([matrix, -matrix @ np.array(move)])


def expose_images(
    images: UInt8[np.ndarray, "n height width"] | Float32[np.ndarray, "n height width"],
    augmentations: Sequence[Augmentation],
) -> Float32[np.ndarray, "n height width"]:
    """Grey levels, 0..255, as another exposure, resizing kernel and file would have left them."""
    exposed = images.astype(np.float32)
    for image, augmentation in zip(exposed, augmentations, strict=True):
        _expose(image, augmentation)
        if augmentation.jpeg_quality is not None:
            image[:] = save_as_jpeg(image.round().astype(np.uint8), augmentation.jpeg_quality)
    return exposed


def warp_images(
    images: Float32[np.ndarray, "n height width"], augmentations: Sequence[Augmentation], size: int
) -> Float32[np.ndarray, "n size size"]:
    """Images, none larger than `size`, turned, moved and enlarged to it, each in its own way."""
    return np.stack([_warp(image, one, size) for image, one in zip(images, augmentations, strict=True)])


def _choose_fill(fill: FillRange, which: float) -> Fill:
    """Of a draw from -1 to 1."""
    if fill == "either":
        return "black" if which < 0 else "mirror"
    return fill


def _choose_quality(lowest: int, which: float, whether: float) -> int | None:
    """Of two draws from -1 to 1."""
    if whether < 0 or lowest > HIGHEST_QUALITY:
        return None
    return round(lowest + (HIGHEST_QUALITY - lowest) * (which + 1) / 2)


def _expose(image: Float32[np.ndarray, "height width"], augmentation: Augmentation) -> None:
    """Changes the grey levels of the array itself."""
    if augmentation.gamma != 1:
        image[:] = 255 * (image / 255) ** np.float32(augmentation.gamma)
    if augmentation.brightness_factor != 1 or augmentation.brightness:
        image *= np.float32(augmentation.brightness_factor)
        image += np.float32(255 * augmentation.brightness)
        np.clip(image, 0, 255, out=image)
    if augmentation.contrast != 1:
        mean = image.mean()
        image -= mean
        image *= np.float32(augmentation.contrast)
        image += mean
    if augmentation.sharpness:
        image += np.float32(augmentation.sharpness) * (image - _smooth(image))
    if augmentation.noise:
        random = np.random.default_rng(augmentation.noise_seed)
        image += 255 * np.float32(augmentation.noise) * random.standard_normal(image.shape, np.float32)
    np.clip(image, 0, 255, out=image)


def _smooth(image: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """The mean of each 3 x 3 pixels; those at the edges count again beyond them."""
    wide = np.pad(image, 1, mode="edge")
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def _warp(image: np.ndarray, augmentation: Augmentation, size: int) -> Float32[np.ndarray, "size size"]:
    """Bilinear, so that without any augmentation it is the model's own enlargement."""
    edges = np.array(image.shape)[::-1, None]  # (x, y), as everything in here
    pads = np.zeros_like(edges)
    if augmentation.fill == "mirror":
        reach = np.abs(augmentation.affine @ CORNERS).max(axis=1, keepdims=True)
        pads = np.ceil(np.maximum(reach - 0.5, 0) * edges).astype(int) + 1
        image = np.pad(image, [(pad, pad) for pad in pads[::-1, 0]], mode="symmetric")
    # Pillow maps pixels to pixels, both counted from a corner.
    matrix, offset = augmentation.affine[:, :2], augmentation.affine[:, 2:]
    corner = edges * (offset + 0.5 - matrix.sum(axis=1, keepdims=True) / 2) + pads
    coefficients = np.hstack([edges * matrix / size, corner]).ravel().tolist()
    warped = Image.fromarray(image).transform(
        (size, size), Image.Transform.AFFINE, tuple(coefficients), resample=Image.Resampling.BILINEAR
    )
    return np.asarray(warped)
