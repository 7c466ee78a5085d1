"""The whole classifier: grey images in, probability of pneumonia out; in memory and saved.

A saved one may come from anywhere: nothing of it is built or unpacked before all of it was looked at. Keras
builds what a file names, so a file may name only what classifiers of this program are made of. Keras
itself refuses weights that are in other files or declare more than is there.
"""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumo_keras.errors import ModelError
from pneumo_keras.model.inference import GREY_OFFSET, GREY_SCALE
from pneumo_keras.model.layers import find_infinite, list_operations
from pneumo_keras.runtime.private_apis import Initializer, override_initializers
from pneumo_keras.storage.bounded_reading import open_zip

FLIP_AVERAGE = "flip_average"
PARTS = ("resize", "scale", "backbone", "head", "decision")
SHARED = "shared_object_id"  # in Keras' files

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {"metadata.json", CONFIG, WEIGHTS}
MOST_BYTES = 1 << 30  # of a file; the largest classifier that settings allow has 0.9 GB
CONFIG_BYTES = 1 << 22  # of the description of its layers; ours take half a million

# All that `Classifier.join` is made of, by module: see there, and `keras.applications.InceptionV3`.
COMPONENTS = {
    None: {"__ellipsis__", "__keras_tensor__", "__slice__"},
    "keras": {"DTypePolicy"},
    "keras.initializers": {"GlorotUniform", "Ones", "Zeros"},
    "keras.layers": {
        *("Activation", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D"),
        *("Dropout", "EinsumDense", "GlobalAveragePooling2D", "InputLayer", "MaxPooling2D", "Normalization"),
        "Rescaling",
    },
    "keras.src.models.functional": {"Functional"},
    "keras.src.ops.image": {"Resize"},
    "keras.src.ops.numpy": {"Clip", "Flip", "GetItem", "Mean", "Subtract"},
}


@dataclass(frozen=True)
class FrozenPart:
    """The frozen layers.

    Attributes:
        resize: Images (n, height, width, 1), 0..255, any size -> (n, size, size, 1).
        scale: (n, size, size, 1) -> (n, size, size, 3) in [-1, 1].
        backbone: Images (n, size, size, 3) -> features (n, d).
    """

    resize: keras.Model
    scale: keras.Model
    backbone: keras.Model

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes to which images are resized, in order, in pixels; first that of the training images."""
        return tuple(operation.size[0] for operation in list_operations(self.resize))


@dataclass(frozen=True)
class Classifier:
    """A classifier by its parts.

    Attributes:
        frozen: Images -> features (n, d).
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


def build_resizing(data_size: int, image_size: int) -> keras.Model:
    """Grey images (n, height, width, 1), 0..255, of any size -> (n, image_size, image_size, 1).

    First to `data_size`, that of the training images, so that the classifier never sees more of an image than
    it saw of those. Both bilinear, as PneumoniaMNIST was made, and antialiased, so that large images are
    averaged and not sampled when they shrink. Operations and not Keras' layer `Resizing`, which switches
    Dropout on where a model is called without `training`.
    """
    images = resized = keras.Input((None, None, 1))
    resize = keras.ops.image.resize
    for size in (data_size, image_size):
        resized = resize(resized, (size, size), interpolation="bilinear", antialias=True)
    return keras.Model(images, resized, name="resize")


def build_scaling(image_size: int) -> keras.Model:
    """Grey images (n, size, size, 1), 0..255 -> what the backbone sees: three channels, [-1, 1]."""
    grey = keras.Input((image_size, image_size, 1))
    scaled = keras.layers.Rescaling(GREY_SCALE, offset=GREY_OFFSET)(grey)
    return keras.Model(grey, keras.layers.Concatenate()([scaled] * 3), name="scale")


def build_frozen_part(backbone: keras.Model, *, data_size: int) -> FrozenPart:
    """Puts the preprocessing in front of a backbone; `data_size` is the training images', in pixels."""
    size: Any = backbone.input_shape[1]
    return FrozenPart(build_resizing(data_size, size), build_scaling(size), backbone)


def build_online_model(frozen: FrozenPart, head: keras.Model) -> keras.Model:
    """The whole model for `fit`: grey images (n, size, size, 1), 0..255 -> log odds (n, members)."""
    size: Any = frozen.backbone.input_shape[1]
    images = keras.Input((size, size, 1), name="images")
    return keras.Model(images, head(frozen.backbone(frozen.scale(images))), name="online")


def save_classifier(model: keras.Model, path: Path) -> None:
    """Saves a model in Keras' own format (`.keras`); the same model gives the same bytes, anywhere.

    Keras would write the hour into it, and the addresses of objects that layers share.
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
            archive.writestr(zipfile.ZipInfo(name), content)  # of 1980, the first year of the format


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
        ModelError: The file is damaged or has another model.
    """
    try:
        draw = _check_file(path)
        with override_initializers(draw, zeros=draw):
            model: Any = keras.saving.load_model(path, compile=False, safe_mode=True)
        if infinite := find_infinite(model):
            raise ValueError(f"the weights '{infinite}' are not finite numbers")
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
        raise ValueError(f"'{name}' is not a network of its own")
    return part


def _check_file(path: Path) -> Initializer:
    """Checks that a file has a classifier, as far as possible without building it.

    Returns:
        Draws what the layers start with while it is loaded: zeros, no more of them than the file has weights.
    """
    with open_zip(path, most=MOST_BYTES) as archive:
        if set(archive.namelist()) != MEMBERS:
            raise ValueError(f"it must have {', '.join(sorted(MEMBERS))} and nothing else")
        if archive.getinfo(CONFIG).file_size > CONFIG_BYTES:
            raise ValueError(f"{CONFIG} has more than {CONFIG_BYTES:,} bytes")
        _check_parts(archive.read(CONFIG))
        left = archive.getinfo(WEIGHTS).file_size

    def draw_zeros(shape: tuple[int, ...]) -> np.ndarray:
        nonlocal left
        left -= 4 * int(np.prod(shape, dtype=object))
        if left < 0:
            raise ValueError(f"{CONFIG} asks for more weights than {WEIGHTS} has")
        return np.zeros(shape, np.float32)

    return draw_zeros


def _check_parts(text: bytes) -> None:
    """Checks that a description names only what classifiers are made of."""
    try:
        description = json.loads(text)
    except RecursionError:
        raise ValueError(f"{CONFIG} is nested too deeply") from None
    for part in _iterate_parts(description):
        module, name, registered = (part.get(key) for key in ("module", "class_name", "registered_name"))
        known = (module is None or isinstance(module, str)) and isinstance(name, str)
        if not known or name not in COMPONENTS.get(module, ()) or registered not in (None, name):
            raise ValueError(f"{CONFIG} names {module}.{name}, which is not part of a classifier")


def _iterate_parts(tree: Any) -> Iterator[dict[str, Any]]:
    """All that Keras would build."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
