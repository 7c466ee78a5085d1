"""Views: the ways of seeing images before they pass the frozen network."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from pneumo_keras.data.images import ImageSet, Rows
from pneumo_keras.features.augmentation import (
    Augmentation,
    AugmentationRanges,
    draw_augmentation,
    expose_images,
    warp_images,
)
from pneumo_keras.model.classifier import FrozenPart


@dataclass(frozen=True)
class View:
    """One way of seeing the images: as they are, or varied.

    Attributes:
        draw: How the image of a row is varied, always in the same way; None for the plain view.
        name: Of the view, in messages; empty for the plain one.
        about: What tells this view from others.
    """

    draw: Callable[[int], Augmentation] | None = None
    name: str = ""
    about: dict[str, Any] = field(default_factory=lambda: {"view": "plain"})

    def enlarge(
        self,
        images: UInt8[np.ndarray, "n _height _width"],
        rows: Sequence[int] | Integer[np.ndarray, " n"],
        frozen: FrozenPart,
    ) -> Float32[np.ndarray, "n size size 1"]:
        """Images, 0..255, as the backbone's scaling takes them.

        Args:
            images: Of any size.
            rows: Which images these are.
            frozen: What brings them to the size of an image.
        """
        size: int = frozen.backbone.input_shape[1]
        if self.draw is None:
            return frozen.resize.predict_on_batch(images[..., None].astype(np.float32))
        augmentations = [self.draw(int(row)) for row in rows]
        changed = expose_images(images, augmentations)
        # A warp looks at single pixels: what is larger than the image is averaged before.
        if max(images.shape[1:]) > size:
            changed = frozen.resize.predict_on_batch(changed[..., None])[..., 0]
        return warp_images(changed, augmentations, size)[..., None]

    def mirror(self) -> "View":
        """The same view, from left to right."""
        draw = self.draw or (lambda row: Augmentation())
        return View(
            draw=lambda row: draw(row).mirror(),
            name=f"{self.name}, mirrored".removeprefix(", "),
            about={**self.about, "mirrored": True, "drawn by": list_versions()},
        )


PLAIN = View()


@dataclass(frozen=True)
class SeenImages:
    """Images in one view, enlarged when asked for: images (n, size, size, 1), 0..255."""

    images: ImageSet
    view: View
    frozen: FrozenPart

    def __getitem__(self, rows: Rows) -> np.ndarray:
        indices = range(len(self.images))[rows] if isinstance(rows, slice) else rows
        return self.view.enlarge(self.images.read(rows), indices, self.frozen)


def build_augmented_views(count: int, ranges: AugmentationRanges, *, seed: int) -> list[View]:
    """Views that vary images at random, each with draws of its own.

    Args:
        count: Of the views.
        ranges: How far images vary.
        seed: Of all draws.
    """
    return [
        _build_random_view(ranges, (seed, index), f"augmented view {index} of {count}")
        for index in range(1, count + 1)
    ]


def build_perturbed_view(ranges: AugmentationRanges, *, seed: int) -> View:
    """The view that heads are tried on: each image varied once, further than in training.

    Args:
        ranges: How far images vary.
        seed: Of all draws.
    """
    return _build_random_view(ranges, (seed, 0), "perturbed")


def _build_random_view(ranges: AugmentationRanges, key: tuple[int, int], name: str) -> View:
    return View(
        # Not from 0, since NumPy takes (seed, 0, 0) for the seed alone.
        draw=lambda row: draw_augmentation(ranges, (*key, row + 1)),
        name=name,
        about={"view": list(key), **asdict(ranges), "drawn by": list_versions()},
    )


def list_versions() -> dict[str, str]:
    """Versions of what draws and warps: another one may do so otherwise."""
    return {package: importlib.metadata.version(package) for package in ("numpy", "pillow")}
