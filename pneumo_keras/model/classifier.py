"""The whole classifier: grey films in, probability of pneumonia out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from pneumo_keras.errors import ModelError


@dataclass(frozen=True)
class Classifier:
    """The saved model and its parts.

    Attributes:
        model: Grey films (n, height, width, 1), 0..255, any size -> probability of pneumonia
            (n, 1).
        resize: Films -> (n, size, size, 1), bilinear.
        scale: (n, size, size, 1) -> (n, size, size, 3) in [-1, 1].
        backbone: Images (n, size, size, 3) -> features (n, d), frozen.
        head: Features (n, d) -> log odds of pneumonia (n, members).
        decision: Log odds (n, members) -> probability of pneumonia (n, 1).
    """

    model: keras.Model
    resize: keras.Model
    scale: keras.Model
    backbone: keras.Model
    head: keras.Model
    decision: keras.Model


def join_classifier(
    resize: keras.Model,
    scale: keras.Model,
    backbone: keras.Model,
    head: keras.Model,
    decision: keras.Model,
    *,
    flip_average: bool = False,
) -> Classifier:
    """Puts the parts together into the model that is saved.

    Args:
        resize: See `Classifier`, like the other parts.
        scale: Grey to what the backbone sees.
        backbone: Frozen.
        head: Fitted.
        decision: Calibrated.
        flip_average: Whether a film's log odds are averaged with those of its mirror image.
    """
    films = keras.Input((None, None, 1), name="films")
    images = scale(resize(films))
    log_odds = head(backbone(images))
    if flip_average:
        mirrored = head(backbone(keras.ops.flip(images, axis=2)))
        log_odds = keras.layers.Average(name="flip_average")([log_odds, mirrored])
    model = keras.Model(films, decision(log_odds), name="pneumo_keras")
    return Classifier(model, resize, scale, backbone, head, decision)


def build_online_model(
    resize: keras.Model,
    augmentation: keras.Sequential,
    scale: keras.Model,
    backbone: keras.Model,
    head: keras.Model,
) -> keras.Model:
    """The whole model for `fit`: grey films (n, height, width, 1) -> log odds (n, members).

    The augmentation varies films in training only and is not part of what is saved.
    """
    films = keras.Input((None, None, 1), name="films")
    images = scale(augmentation(resize(films)))
    return keras.Model(films, head(backbone(images)), name="online")


def load_classifier(path: Path) -> Classifier:
    """Reads a saved classifier.

    Raises:
        ModelError: The file is damaged or holds another model.
    """
    try:
        model: Any = keras.saving.load_model(path, compile=False)
        names = ("resize", "scale", "backbone", "head", "decision")
        return Classifier(model, *(model.get_layer(name) for name in names))
    except Exception as error:  # zipfile, h5py, json and Keras each raise their own
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path} is damaged or was not written by pneumo-keras: {reason}. Train again."
        ) from error
