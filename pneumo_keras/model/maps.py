"""What the feature layers of a backbone hold before they are averaged, and where on the image each cell of it lies."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from pneumo_keras.model.backbone import list_ends

Shares = Float64[np.ndarray, "_pixels _cells"]

# Standard deviation of what a cell spreads over, as a share of the image's edge: single cells are noise.
# Chosen on phantom images: 0.05 finds fewer opacities, 0.1 no more (docs/benchmarks.md).
BLUR = 0.08


@dataclass(frozen=True)
class Axis:
    """Where the cells of a map lie along one side of the image, in pixels of the image.

    Attributes:
        first: Centre of the first cell's field of view; the first pixel's centre is 0.
        step: From one cell's centre to the next.
    """

    first: float = 0.0
    step: float = 1.0

    def slide(self, *, size: int, window: int, step: int, padded: bool) -> "Axis":
        """The cells behind a window that slides over these.

        Args:
            size: Number of these.
            window: Width of the window.
            step: From one place of the window to the next.
            padded: Whether cells of nothing are put around these (`same` padding).
        """
        lacking = (math.ceil(size / step) - 1) * step + window - size if padded else 0
        before = max(lacking, 0) // 2
        return Axis(self.first + self.step * ((window - 1) / 2 - before), self.step * step)

    def spread(self, cells: int, *, length: int, pixels: int) -> Shares:
        """The share of each cell that falls to each pixel of an image, so that nothing is lost or added.

        A cell lies where its field of view has its centre. To stretch the cells over the image instead would
        move what they show by a tenth of it: a network that pads nothing has no cells near the border.

        Args:
            cells: Of the map along this side.
            length: Of the image along this side, in pixels of the image.
            pixels: Of the image along this side.
        """
        borders = np.linspace(0, length, pixels + 1) - 0.5
        centres = self.first + self.step * np.arange(cells)
        below = ndtr((borders[:, None] - centres) / max(BLUR * length, self.step / 2))
        shares = np.diff(below, axis=0)
        return shares / shares.sum(axis=0)


def build_map_model(backbone: keras.Model) -> keras.Model:
    """From images (n, size, size, 3) to the feature layers' maps (n, cells, cells, channels), a list in their order."""
    images: Any = backbone.input
    return keras.Model(images, [layer.input for layer in list_ends(backbone).values()], name="maps")


def locate_cells(maps: keras.Model) -> list[tuple[Axis, Axis]]:
    """Where the cells of each map lie, from top to bottom and from left to right.

    Args:
        maps: As `build_map_model` makes it.
    """
    images: Any = maps.input
    places = {id(images): (Axis(), Axis())}
    for layer in maps.operations:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        # Branches that meet again have come by windows of the same places.
        source = keras.tree.flatten(layer.input)[0]
        places[id(layer.output)] = _slide(layer, source.shape[1:3], places[id(source)])
    return [places[id(output)] for output in maps.outputs]


def _slide(layer: Any, extent: tuple[int, int], place: tuple[Axis, Axis]) -> tuple[Axis, Axis]:
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None:  # it changes values, not places
        return place
    padded = layer.padding == "same"
    down, across = (
        axis.slide(size=size, window=width, step=step, padded=padded)
        for axis, size, width, step in zip(place, extent, window, layer.strides, strict=True)
    )
    return down, across
