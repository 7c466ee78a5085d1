"""Views: the ways of seeing images before they pass the frozen network, plain, augmented or perturbed."""

import importlib.metadata
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from pneumo_keras.data.images import ImageSet, Rows
from pneumo_keras.features.augmentation import (
    Augmentation,
    AugmentationRanges,
    build_affine,
    draw_augmentation,
    expose_images,
    warp_images,
)
from pneumo_keras.model.inference import resize_images


@dataclass(frozen=True)
class View:
    """One way of seeing the images: as they are, or changed.

    Attributes:
        draw: How the image of a row is changed, always in the same way; None for the plain view.
        name: Name of the view, in messages; empty for the plain one.
        about: What distinguishes this view from others.
    """

    draw: Callable[[int], Augmentation] | None = None
    name: str = ""
    about: dict[str, Any] = field(default_factory=lambda: {"view": "plain"})

    def enlarge(
        self,
        images: UInt8[np.ndarray, "n _height _width"],
        rows: Sequence[int] | Integer[np.ndarray, " n"],
        size: int,
    ) -> Float32[np.ndarray, "n {size} {size}"]:
        """Images of these rows, 0..255 and of any size, at the size of the network's, in pixels."""
        if self.draw is None:
            return resize_images(images, size)
        augmentations = [self.draw(int(row)) for row in rows]
        changed = expose_images(images, augmentations)
        # A warp looks at single pixels: what is larger than the image is averaged before.
        if max(images.shape[1:]) > size:
            changed = resize_images(changed, size)
        return warp_images(changed, augmentations, size)

    def mirror(self) -> "View":
        """The same view, from left to right."""
        draw = self.draw or (lambda row: Augmentation())
        return View(
            draw=lambda row: draw(row).mirror(),
            name=f"{self.name}, mirrored".removeprefix(", "),
            about={**self.about, "mirrored": True, "drawn by": list_drawing_versions()},
        )


PLAIN = View()


@dataclass(frozen=True)
class SeenImages:
    """Images in one view, enlarged on access: (n, size, size, 1), 0..255."""

    images: ImageSet
    view: View
    size: int

    def __getitem__(self, rows: Rows) -> np.ndarray:
        indices = range(len(self.images))[rows] if isinstance(rows, slice) else rows
        return self.view.enlarge(self.images.read(rows), indices, self.size)[..., None]


def list_evaluated_views(flip_average: bool, view: View = PLAIN) -> list[View]:
    """How images are seen that are scored; log odds are averaged over them."""
    return [view, view.mirror()] if flip_average else [view]


def build_augmented_views(count: int, ranges: AugmentationRanges, *, seed: int) -> list[View]:
    """Views in which images are augmented at random, each with draws of its own."""
    return [
        _build_random_view(ranges, (seed, index), f"augmented view {index} of {count}")
        for index in range(1, count + 1)
    ]


def build_perturbed_view(ranges: AugmentationRanges, *, seed: int) -> View:
    """The view that heads are tested on: each image changed once, further than in training."""
    return _build_random_view(ranges, (seed, 0), "perturbed")


def list_drawing_versions() -> dict[str, str]:
    """Versions of what draws and warps: another one may do so differently."""
    return {package: importlib.metadata.version(package) for package in ("numpy", "pillow")}


def _build_random_view(ranges: AugmentationRanges, key: tuple[int, int], name: str) -> View:
    return View(
        # Not from 0, since NumPy takes (seed, 0, 0) for the seed alone.
        draw=lambda row: draw_augmentation(ranges, (*key, row + 1)),
        name=name,
        about={"view": list(key), **asdict(ranges), "drawn by": list_drawing_versions()},
    )


def _rotate(degrees: float, draw: float) -> Augmentation:
    angle = math.copysign(math.radians(degrees), draw - 0.5)
    return Augmentation(build_affine(angle=angle), fill="mirror")


def _zoom(factor: float, draw: float) -> Augmentation:
    return Augmentation(build_affine(zoom=factor), fill="mirror")


def _shift(share: float, draw: float) -> Augmentation:
    angle = 2 * math.pi * draw
    move = (share * math.cos(angle), share * math.sin(angle))
    return Augmentation(build_affine(move=move), fill="mirror")


def _sharpen(share: float, draw: float) -> Augmentation:
    return Augmentation(sharpness=share)


PERTURBATIONS: Mapping[str, tuple[Callable[[float, float], Augmentation], tuple[float, ...]]] = {
    "rotation": (_rotate, (3.0, 6.0, 9.0, 12.0, 15.0)),
    "zoom_in": (_zoom, (1.07, 1.14, 1.21, 1.28, 1.35)),
    "zoom_out": (_zoom, (1 / 1.07, 1 / 1.14, 1 / 1.21, 1 / 1.28, 1 / 1.35)),
    "shift": (_shift, (0.018, 0.036, 0.054, 0.072, 0.09)),
    "sharpness_up": (_sharpen, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "sharpness_down": (_sharpen, (-0.1, -0.2, -0.3, -0.4, -0.5)),
}
"""Perturbations of how an image is turned, framed or resized, and their parameters by severity, 1 to 5.

Each also takes a draw from 0 to 1, which decides on its direction.
"""


def build_severities_view(kind: str, *, n: int, seed: int) -> View:
    """The view of `n` images that come five times, one severity of a `PERTURBATIONS` after the other."""
    (build, parameters), key = PERTURBATIONS[kind], zlib.crc32(kind.encode())

    def draw(row: int) -> Augmentation:
        severity, image = divmod(row, n)
        # Not from 0, since NumPy takes (1, 2, 0) for (1, 2). An image moves one way at all severities.
        direction = np.random.default_rng((seed, key, image + 1)).random()
        return build(parameters[severity], direction)

    about = {"view": "perturbation", "kind": kind, "images": n, "seed": seed}
    return View(draw, kind, {**about, "drawn by": list_drawing_versions()})
