"""The whole classifier: grey images in, probability of pneumonia out."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumo_keras.errors import ModelError
from pneumo_keras.model.initial import replace_draws
from pneumo_keras.model.model_file import check_model_file
from pneumo_keras.model.preprocessing import build_resizing, build_scaling

FLIP_AVERAGE = "flip_average"
PARTS = ("resize", "scale", "backbone", "head", "decision")
SHARED = "shared_object_id"  # in Keras' files


@dataclass(frozen=True)
class FrozenPart:
    """All that never learns.

    Attributes:
        resize: ImageSet (n, height, width, 1), 0..255, any size -> (n, size, size, 1).
        scale: (n, size, size, 1) -> (n, size, size, 3) in [-1, 1].
        backbone: Images (n, size, size, 3) -> features (n, d).
    """

    resize: keras.Model
    scale: keras.Model
    backbone: keras.Model


@dataclass(frozen=True)
class Classifier:
    """A classifier by its parts.

    Attributes:
        frozen: ImageSet -> features (n, d).
        head: Features (n, d) -> log odds of pneumonia (n, members).
        decision: Log odds (n, members) -> probability of pneumonia (n, 1).
        flip_average: Whether an image's log odds are averaged with those of its mirror image.
    """

    frozen: FrozenPart
    head: keras.Model
    decision: keras.Model
    flip_average: bool

    def join(self) -> keras.Model:
        """The model that is saved: grey images (n, height, width, 1), 0..255, any size -> (n, 1)."""
        images = keras.Input((None, None, 1), name="images")
        scaled = self.frozen.scale(self.frozen.resize(images))
        log_odds = self.head(self.frozen.backbone(scaled))
        if self.flip_average:
            mirrored = self.head(self.frozen.backbone(keras.ops.flip(scaled, axis=2)))
            log_odds = keras.layers.Average(name=FLIP_AVERAGE)([log_odds, mirrored])
        return keras.Model(images, self.decision(log_odds), name="pneumo_keras")


def build_frozen_part(backbone: keras.Model, *, data_size: int) -> FrozenPart:
    """Puts the preprocessing in front of a backbone.

    Args:
        backbone: Images (n, size, size, 3) in [-1, 1] -> features (n, d).
        data_size: Height and width of the images to be trained on, in pixels.
    """
    size: Any = backbone.input_shape[1]
    return FrozenPart(build_resizing(data_size, size), build_scaling(size), backbone)


def build_online_model(frozen: FrozenPart, head: keras.Model) -> keras.Model:
    """The whole model for `fit`: grey images (n, size, size, 1), 0..255 -> log odds (n, members)."""
    size: Any = frozen.backbone.input_shape[1]
    images = keras.Input((size, size, 1), name="images")
    return keras.Model(images, head(frozen.backbone(frozen.scale(images))), name="online")


def save_classifier(model: keras.Model, path: Path) -> None:
    """Saves a model in Keras' own format; the same model gives the same bytes, whenever and wherever.

    Keras would write the hour into it, and the addresses of objects that layers share.

    Args:
        model: ImageSet (n, height, width, 1), 0..255 -> probability of pneumonia (n, 1).
        path: Ends in `.keras`.
    """
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(members["metadata.json"])
    del metadata["date_saved"]
    members["metadata.json"] = json.dumps(metadata).encode()
    members["config.json"] = _number_shared_objects(members["config.json"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # of 1980, the first year that the format knows


def _number_shared_objects(config: bytes) -> bytes:
    """Objects that several layers share, numbered in their order."""
    numbers: dict[int, int] = {}

    def number(table: dict[str, Any]) -> dict[str, Any]:
        if SHARED in table:
            table[SHARED] = numbers.setdefault(table[SHARED], len(numbers))
        return table

    return json.dumps(json.loads(config, object_hook=number)).encode()


def load_classifier(path: Path) -> Classifier:
    """Reads a saved classifier.

    Raises:
        ModelError: The file is damaged or holds another model.
    """
    try:
        draw = check_model_file(path)
        with replace_draws(draw, zeros=draw):
            model: Any = keras.saving.load_model(path, compile=False, safe_mode=True)
        _check_finite(model)
        resize, scale, backbone, head, decision = (_get_part(model, name) for name in PARTS)
        flip_average = any(layer.name == FLIP_AVERAGE for layer in model.layers)
        return Classifier(FrozenPart(resize, scale, backbone), head, decision, flip_average)
    except Exception as error:  # zipfile, h5py, json and Keras each raise their own
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200].rstrip(".")
        raise ModelError(
            f"{path} is damaged or was not written by pneumo-keras: {reason}. Train again."
        ) from error


def _get_part(model: Any, name: str) -> keras.Model:
    part = model.get_layer(name)
    if type(part) is not type(model):
        raise ValueError(f"'{name}' is no network of its own")
    return part


def _check_finite(model: Any) -> None:
    for variable in model.variables:
        value = np.asarray(keras.ops.convert_to_numpy(variable))
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"the weights '{variable.path}' hold numbers that are not finite")
