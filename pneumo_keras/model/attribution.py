"""Which regions of an image a classifier's log odds come from.

A head gets each channel of a feature layer averaged over the image. Where it is linear, its log odds are
therefore a sum over the cells of the layer, without any choice. With hidden units the same is true of the
gradient, as long as the same units stay active.

What a cell adds is compared with what the same cell adds on normal images: borders, corners and bones are
on every image and carry no information about this one.

References:
    Zhou, B. et al. (2016). Learning deep features for discriminative localization. CVPR: the class activation
    map. Selvaraju, R. R. et al. (2017). Grad-CAM. ICCV: the same by the gradient; here it keeps its sign.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64
from scipy.special import ndtr

from pneumo_keras.arrays import Features, ImageBatch, Images
from pneumo_keras.model.inference import Axis, HeadMembers, PooledLayer, list_views

ComputeMaps = Callable[[Iterable[ImageBatch]], Iterator[Float32[np.ndarray, "_n _values"]]]
"""Batches of images -> the maps of all feature layers of each, in a row, channels running fastest."""

FeatureLayerMaps = list[np.ndarray]
"""For each feature layer its map (cells, cells, channels)."""

CellWeights = Float64[np.ndarray, "_pixels _cells"]

# Standard deviation of what a cell spreads over, as a share of the image's edge: single cells are noise.
# Chosen on phantom images: 0.05 finds fewer opacities, 0.1 no more (docs/benchmarks.md).
BLUR = 0.08


@dataclass(frozen=True)
class Explanation:
    """Where an image's log odds come from.

    Attributes:
        evidence: For each pixel of the image: what the log odds would be above (for pneumonia) or below
            (against it) those of normal images, if the whole image differed from them as it does here.
        base: Log odds without it: those of the image are `base` and the mean of `evidence`.
    """

    evidence: Float32[np.ndarray, "height width"]
    base: float


@dataclass(frozen=True)
class Explainer:
    """What shows where the log odds of a classifier come from.

    Attributes:
        layers: Feature layers of the frozen network.
        compute_maps: The frozen network up to their maps.
        head: Features -> log odds.
        slope: Of the calibration.
        intercept: Of the calibration.
        flip_average: Whether an image's log odds are averaged with those of its mirror image.
        image_size: Edge of the images that the network sees, in pixels.
        cell_weights: For each feature layer the weights of its cells in the image's pixels, down and across.
        normal_means: For each view of an image the feature layers' mean maps over normal images.
    """

    layers: Sequence[PooledLayer]
    compute_maps: ComputeMaps
    head: HeadMembers
    slope: float
    intercept: float
    flip_average: bool
    image_size: int
    cell_weights: Sequence[tuple[CellWeights, CellWeights]] = ()
    normal_means: Sequence[FeatureLayerMaps] = ()

    def explain(self, images: Images) -> Iterator[Explanation]:
        """Explains images of the size that the classifier was trained on, 0 (black) to 255 (white)."""
        for views in self.see(images):
            features = np.stack([np.concatenate([one.mean(axis=(0, 1)) for one in maps]) for maps in views])
            gradients, log_odds = linearise_head(self.head, features)
            added = [
                self._spread(gradient, maps, normal_means)
                for gradient, maps, normal_means in zip(gradients, views, self.normal_means, strict=True)
            ]
            if self.flip_average:
                added = [added[0], added[1][:, ::-1]]
            evidence = self.slope * np.mean(added, axis=0)
            calibrated = self.slope * float(log_odds.mean()) + self.intercept
            yield Explanation(evidence.astype(np.float32), base=calibrated - float(evidence.mean()))

    def see(self, images: Images) -> Iterator[list[FeatureLayerMaps]]:
        """The maps of each view that the classifier scores: the image, its mirror image if it averages."""
        maps = iter(self.compute_maps(self._list_views(images)))
        for first in maps:
            yield [self._split(one) for one in ([first, next(maps)] if self.flip_average else [first])]

    def _list_views(self, images: Images) -> Iterator[ImageBatch]:
        """One by one: every image then runs in the same program, which is compiled once."""
        for image in images:
            yield from list_views(image[None], self.image_size, flip_average=self.flip_average)

    def _split(self, values: Float32[np.ndarray, "1 _values"]) -> FeatureLayerMaps:
        shapes = [(*layer.shape, layer.d) for layer in self.layers]
        parts = np.split(values[0], np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _spread(
        self, gradient: Float64[np.ndarray, " d"], maps: FeatureLayerMaps, normal_means: FeatureLayerMaps
    ) -> Float64[np.ndarray, "height width"]:
        """What the pixels add to the log odds, in the mean over the image."""
        slopes = np.split(gradient, np.cumsum([one.shape[-1] for one in maps])[:-1])
        added = np.zeros(())
        for slope, one, mean, (down, across) in zip(
            slopes, maps, normal_means, self.cell_weights, strict=True
        ):
            cells = (one.astype(np.float64) - mean) @ slope
            added = added + down @ cells @ across.T * (len(down) * len(across) / cells.size)
        return added


def build_explainer(explainer: Explainer, normal: Images) -> Explainer:
    """Lets an explainer compare with normal images; a dozen of them, of the training images' size, do."""
    height, width = normal.shape[1:]
    cell_weights = [
        (
            spread_cells(layer.down, layer.shape[0], length=explainer.image_size, pixels=height),
            spread_cells(layer.across, layer.shape[1], length=explainer.image_size, pixels=width),
        )
        for layer in explainer.layers
    ]
    seen = list(explainer.see(normal))  # images, views, feature layers
    normal_means = [
        [np.stack(one).mean(axis=0, dtype=np.float64) for one in zip(*view, strict=True)]
        for view in zip(*seen, strict=True)
    ]
    return replace(explainer, cell_weights=cell_weights, normal_means=normal_means)


def linearise_head(
    head: HeadMembers, features: Features
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, " n"]]:
    """The gradient of a head's log odds, in the mean over its members, at the features of images; log odds.

    Exact as long as the same hidden units stay active.
    """
    values = features - head.shift
    slopes = []  # of ReLU or nothing: members, images, outputs
    for layer in head.layers:
        values = values @ layer.kernels + layer.biases[:, None]
        slopes.append(values > 0 if layer.relu else np.ones(values.shape))
        values = values * slopes[-1]
    gradient = np.ones(values.shape)
    for layer, slope in zip(reversed(head.layers), reversed(slopes), strict=True):
        gradient = (gradient * slope) @ layer.kernels.swapaxes(1, 2)
    return gradient.mean(axis=0), values[..., 0].mean(axis=0)


def spread_cells(axis: Axis, cells: int, *, length: int, pixels: int) -> CellWeights:
    """The share of each cell that falls to each pixel of an image, so that nothing is lost or added.

    A cell is where its field of view has its centre. To stretch the cells over the image instead would
    move what they show by a tenth of it: a network that pads nothing has no cells near the border.
    `length` is that of this side in pixels of the network's image, `pixels` of the user's.
    """
    borders = np.linspace(0, length, pixels + 1) - 0.5
    centres = axis.first + axis.step * np.arange(cells)
    below = ndtr((borders[:, None] - centres) / max(BLUR * length, axis.step / 2))
    shares = np.diff(below, axis=0)
    return shares / shares.sum(axis=0)
