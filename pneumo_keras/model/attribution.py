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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.special import ndtr

from pneumo_keras.arrays import Features, Images
from pneumo_keras.model.backbone import list_ends
from pneumo_keras.model.classifier import Classifier
from pneumo_keras.model.head import read_members
from pneumo_keras.model.layers import list_operations

Image = UInt8[np.ndarray, "height width"]
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
    """A classifier that shows where its log odds come from.

    Attributes:
        classifier: Classifier of a run.
        maps: Images -> the feature layers' maps.
        cell_weights: For each feature layer the weights of its cells in the image's pixels, down and across.
        normal_means: For each view of an image the feature layers' mean maps over normal images.
    """

    classifier: Classifier
    maps: keras.Model
    cell_weights: Sequence[tuple[CellWeights, CellWeights]]
    normal_means: Sequence[FeatureLayerMaps]

    def explain(self, image: Image) -> Explanation:
        """Explains an image of the size that the classifier was trained on, 0 (black) to 255 (white)."""
        views = _compute_maps(self.classifier, self.maps, image)
        features = np.stack([np.concatenate([one.mean(axis=(0, 1)) for one in maps]) for maps in views])
        gradients, log_odds = linearise_head(self.classifier.head, features)
        added = [
            self._spread(gradient, maps, normal_means)
            for gradient, maps, normal_means in zip(gradients, views, self.normal_means, strict=True)
        ]
        if self.classifier.flip_average:
            added = [added[0], added[1][:, ::-1]]
        calibration: Any = self.classifier.decision.get_layer("calibration")
        evidence = float(calibration.scale) * np.mean(added, axis=0)
        calibrated = float(calibration.scale * log_odds.mean() + calibration.offset)
        return Explanation(evidence.astype(np.float32), base=calibrated - float(evidence.mean()))

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


def build_explainer(classifier: Classifier, normal: Images) -> Explainer:
    """Makes a classifier explain images; a dozen of normal ones, of its training images' size, are enough."""
    maps = build_map_model(classifier.frozen.backbone)
    height, width = normal.shape[1:]
    length: int = classifier.frozen.backbone.input_shape[1]
    cell_weights = [
        (
            down.spread(output.shape[1], length=length, pixels=height),
            across.spread(output.shape[2], length=length, pixels=width),
        )
        for output, (down, across) in zip(maps.outputs, locate_cells(maps), strict=True)
    ]
    seen = [_compute_maps(classifier, maps, image) for image in normal]  # images, views, feature layers
    normal_means = [
        [np.stack(one).mean(axis=0, dtype=np.float64) for one in zip(*view, strict=True)]
        for view in zip(*seen, strict=True)
    ]
    return Explainer(classifier, maps, cell_weights, normal_means)


def _compute_maps(classifier: Classifier, maps: keras.Model, image: Image) -> list[FeatureLayerMaps]:
    """The maps of each view that the classifier scores: the image, and its mirror image if it averages."""
    frozen = classifier.frozen
    images = frozen.resize.predict_on_batch(image[None, ..., None].astype(np.float32))
    scaled = np.asarray(frozen.scale.predict_on_batch(images))
    views = [scaled, np.ascontiguousarray(scaled[:, :, ::-1])] if classifier.flip_average else [scaled]
    # One by one: every image then runs in the same program, which is compiled once.
    outputs = [keras.tree.flatten(maps.predict_on_batch(view)) for view in views]
    return [[np.asarray(one)[0] for one in feature_layers] for feature_layers in outputs]


def linearise_head(
    head: keras.Model, features: Features
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, " n"]]:
    """The gradient of a head's log odds, in the mean over its members, at the features of images; log odds.

    Exact as long as the same hidden units stay active.
    """
    members = read_members(head)
    values = features.astype(np.float64) - (0 if members.shift is None else members.shift)
    slopes = []  # of ReLU or nothing: members, images, outputs
    for layer in members.layers:
        values = values @ layer.kernels + layer.biases[:, None]
        slopes.append(values > 0 if layer.relu else np.ones(values.shape))
        values = values * slopes[-1]
    gradient = np.ones(values.shape)
    for layer, slope in zip(reversed(members.layers), reversed(slopes), strict=True):
        gradient = (gradient * slope) @ layer.kernels.swapaxes(1, 2)
    return gradient.mean(axis=0), values[..., 0].mean(axis=0)


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

    def spread(self, cells: int, *, length: int, pixels: int) -> CellWeights:
        """The share of each cell that falls to each pixel of an image, so that nothing is lost or added.

        A cell is where its field of view has its centre. To stretch the cells over the image instead would
        move what they show by a tenth of it: a network that pads nothing has no cells near the border.
        `length` is that of this side in pixels of the network's image, `pixels` of the user's.
        """
        borders = np.linspace(0, length, pixels + 1) - 0.5
        centres = self.first + self.step * np.arange(cells)
        below = ndtr((borders[:, None] - centres) / max(BLUR * length, self.step / 2))
        shares = np.diff(below, axis=0)
        return shares / shares.sum(axis=0)


def build_map_model(backbone: keras.Model) -> keras.Model:
    """From images (n, size, size, 3) to the feature layers' maps (n, cells, cells, channels), in order."""
    images: Any = backbone.input
    return keras.Model(images, [layer.input for layer in list_ends(backbone).values()], name="maps")


def locate_cells(maps: keras.Model) -> list[tuple[Axis, Axis]]:
    """Where the cells of each map of `build_map_model` are, from top to bottom and from left to right."""
    located = {id(maps.input): (Axis(), Axis())}
    for layer in list_operations(maps):
        # Branches that are joined again have windows at the same locations.
        source = keras.tree.flatten(layer.input)[0]
        down, across = located[id(source)]
        window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
        if window:  # other layers change only values
            sides = zip((down, across), source.shape[1:3], window, layer.strides, strict=True)
            down, across = (
                axis.slide(size=size, window=width, step=step, padded=layer.padding == "same")
                for axis, size, width, step in sides
            )
        located[id(layer.output)] = down, across
    return [located[id(output)] for output in maps.outputs]
