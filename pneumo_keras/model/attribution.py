"""Which places of an image a classifier's log odds come from.

A head sees each channel of a feature layer averaged over the image. Where it is linear, its log odds are therefore a sum
over places: what each of them adds, without any choice. With hidden units the same holds by the gradient, as
long as the same units stay active.

What a place adds is compared with what the same place adds on normal images: borders, corners and bones stand
on every image and say nothing about this one.

References:
    Zhou, B. et al. (2016). Learning deep features for discriminative localization. CVPR: the class activation
    map. Selvaraju, R. R. et al. (2017). Grad-CAM. ICCV: the same by the gradient; here it keeps its sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from pneumo_keras.arrays import Images
from pneumo_keras.model.classifier import Classifier
from pneumo_keras.model.maps import Shares, build_map_model, locate_cells
from pneumo_keras.model.plane import read_plane

Image = UInt8[np.ndarray, "height width"]
FeatureLayerMaps = list[np.ndarray]
"""For each feature layer its map (cells, cells, channels)."""


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
    """A classifier that says where its log odds come from.

    Attributes:
        classifier: Of a run.
        maps: Images -> the feature layers' maps.
        shares: For each feature layer the shares of its cells in the image's pixels, down and across.
        usual: For each view of an image the feature layers' mean maps over normal images.
    """

    classifier: Classifier
    maps: keras.Model
    shares: Sequence[tuple[Shares, Shares]]
    usual: Sequence[FeatureLayerMaps]

    def explain(self, image: Image) -> Explanation:
        """Explains an image of the size that the classifier was trained on, 0 (black) to 255 (white).

        Raises:
            ModelError: The classifier's head is of a kind that is not known here.
        """
        views = compute_maps(self.classifier, self.maps, image)
        features = np.stack([np.concatenate([one.mean(axis=(0, 1)) for one in maps]) for maps in views])
        plane = read_plane(self.classifier.head, features)
        places = [
            self._to_places(gradient, maps, usual)
            for gradient, maps, usual in zip(plane.gradient, views, self.usual, strict=True)
        ]
        if self.classifier.flip_average:
            places = [places[0], places[1][:, ::-1]]
        calibration: Any = self.classifier.decision.get_layer("calibration")
        evidence = float(calibration.scale) * np.mean(places, axis=0)
        log_odds = float(calibration.scale * plane.log_odds.mean() + calibration.offset)
        return Explanation(evidence.astype(np.float32), base=log_odds - float(evidence.mean()))

    def _to_places(
        self, gradient: Float64[np.ndarray, " d"], maps: FeatureLayerMaps, usual: FeatureLayerMaps
    ) -> Float64[np.ndarray, "height width"]:
        """What the pixels add to the log odds, in the mean over the image."""
        widths = np.cumsum([one.shape[-1] for one in maps])[:-1]
        parts = zip(np.split(gradient, widths), maps, usual, self.shares, strict=True)
        places = np.zeros(())
        for slope, one, mean, (down, across) in parts:
            cells = (one.astype(np.float64) - mean) @ slope
            places = places + down @ cells @ across.T * (len(down) * len(across) / cells.size)
        return places


def build_explainer(classifier: Classifier, normal: Images) -> Explainer:
    """Makes a classifier explain images.

    Args:
        classifier: Of a run.
        normal: Images that are to count as normal, of the size that it was trained on: a dozen do.
    """
    maps = build_map_model(classifier.frozen.backbone)
    height, width = normal.shape[1:]
    length: int = classifier.frozen.backbone.input_shape[1]
    shares = [
        (
            down.spread(output.shape[1], length=length, pixels=height),
            across.spread(output.shape[2], length=length, pixels=width),
        )
        for output, (down, across) in zip(maps.outputs, locate_cells(maps), strict=True)
    ]
    seen = [compute_maps(classifier, maps, image) for image in normal]  # images, views, feature layers
    usual = [
        [np.stack(one).mean(axis=0, dtype=np.float64) for one in zip(*view, strict=True)]
        for view in zip(*seen, strict=True)
    ]
    return Explainer(classifier, maps, shares, usual)


def compute_maps(classifier: Classifier, maps: keras.Model, image: Image) -> list[FeatureLayerMaps]:
    """The feature layers' maps for each view that the classifier scores: the image, and its mirror image if it averages.

    Args:
        classifier: Of a run.
        maps: Images -> the feature layers' maps.
        image: 0 (black) to 255 (white).
    """
    frozen = classifier.frozen
    images = frozen.resize.predict_on_batch(image[None, ..., None].astype(np.float32))
    scaled = np.asarray(frozen.scale.predict_on_batch(images))
    views = [scaled, np.ascontiguousarray(scaled[:, :, ::-1])] if classifier.flip_average else [scaled]
    # One by one: every image then runs in the same program, which is compiled once.
    outputs = [keras.tree.flatten(maps.predict_on_batch(view)) for view in views]
    return [[np.asarray(one)[0] for one in feature_layers] for feature_layers in outputs]
