"""The head, and the whole classifier: grey films in, probability of pneumonia out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from jaxtyping import Float

from pneumo_keras.errors import ModelError
from pneumo_keras.seeds import derive_seeds

Moments = Float[np.ndarray, " d"]


@dataclass(frozen=True)
class Head:
    """The same layers seen twice.

    Attributes:
        logits: Features (n, d) -> logits (n, outputs); what is fitted.
        probability: Features (n, d) -> probability of pneumonia (n, 1); what is saved.
    """

    logits: keras.Model
    probability: keras.Model


@dataclass(frozen=True)
class Classifier:
    """The saved model and its parts.

    Attributes:
        model: Grey films (n, height, width, 1), 0..255, any size -> probability of pneumonia
            (n, 1).
        resize: Films -> (n, size, size, 1), bilinear.
        scale: (n, size, size, 1) -> (n, size, size, 3) in [-1, 1].
        backbone: Images (n, size, size, 3) -> features (n, d), frozen.
        head: Features (n, d) -> probability of pneumonia (n, 1).
    """

    model: keras.Model
    resize: keras.Model
    scale: keras.Model
    backbone: keras.Model
    head: keras.Model


def build_standardisation(mean: Moments, variance: Moments) -> keras.layers.Layer:
    """Features (n, d) to zero mean and unit variance.

    Args:
        mean: Of the training features.
        variance: Of the training features. A feature that hardly varies is not blown up: what
            is far below the average counts as a thousandth of its standard deviation.
    """
    floor = 1e-6 * variance.mean() or 1.0
    return keras.layers.Normalization(mean=mean, variance=np.maximum(variance, floor), name="standardise")


def build_head(
    d: int,
    *,
    standardisation: keras.layers.Layer | None,
    hidden_units: int,
    dropout: float,
    outputs: int,
    seed: int,
) -> Head:
    """Builds the only part that learns.

    Args:
        d: Number of features.
        standardisation: Put in front of the head, if any.
        hidden_units: Width of the hidden ReLU layer; 0 makes the head linear.
        dropout: Share of the hidden units (of the features, in a linear head) dropped while
            training, in [0, 1).
        outputs: 1 for a sigmoid, 2 for a softmax over normal and pneumonia.
        seed: Of the initial weights and of dropout.
    """
    seeds = iter(derive_seeds(seed, count=3))
    features = keras.Input((d,), name="features")
    x = features if standardisation is None else standardisation(features)
    if hidden_units:
        glorot: Any = keras.initializers.GlorotUniform(next(seeds))
        x = keras.layers.Dense(hidden_units, activation="relu", kernel_initializer=glorot, name="hidden")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, seed=next(seeds), name="dropout")(x)
    glorot = keras.initializers.GlorotUniform(next(seeds))
    logits = keras.layers.Dense(outputs, kernel_initializer=glorot, name="logits")(x)
    if outputs == 1:
        probability = keras.layers.Activation("sigmoid", name="probability")(logits)
    else:
        probability = keras.layers.Softmax(name="probability")(logits)[:, 1:]
    return Head(
        logits=keras.Model(features, logits, name="logits"),
        probability=keras.Model(features, probability, name="head"),
    )


def build_resizing(image_size: int) -> keras.Model:
    """Grey films (n, height, width, 1) of any size -> (n, image_size, image_size, 1), bilinear.

    Antialiased, so that large films are averaged and not sampled when they shrink. An operation and
    not Keras' layer `Resizing`, which switches Dropout on where a model is called without `training`.
    """
    films = keras.Input((None, None, 1))
    resized = keras.ops.image.resize(
        films, (image_size, image_size), interpolation="bilinear", antialias=True
    )
    return keras.Model(films, resized, name="resize")


def build_scaling(image_size: int) -> keras.Model:
    """Grey images (n, size, size, 1), 0..255 -> what the backbone sees: three channels, [-1, 1]."""
    grey = keras.Input((image_size, image_size, 1))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(grey)
    return keras.Model(grey, keras.layers.Concatenate()([scaled] * 3), name="scale")


def join_classifier(
    resize: keras.Model, scale: keras.Model, backbone: keras.Model, head: keras.Model
) -> Classifier:
    """Puts the parts together into the model that is saved."""
    films = keras.Input((None, None, 1), name="films")
    probability = head(backbone(scale(resize(films))))
    model = keras.Model(films, probability, name="pneumo_keras")
    return Classifier(model=model, resize=resize, scale=scale, backbone=backbone, head=head)


def build_online_model(
    resize: keras.Model,
    augmentation: keras.Sequential,
    scale: keras.Model,
    backbone: keras.Model,
    logits: keras.Model,
) -> keras.Model:
    """The whole model for `fit`: grey films (n, height, width, 1) -> logits (n, outputs).

    The augmentation varies films in training only and is not part of what is saved.
    """
    films = keras.Input((None, None, 1), name="films")
    images = scale(augmentation(resize(films)))
    return keras.Model(films, logits(backbone(images)), name="online")


def load_classifier(path: Path) -> Classifier:
    """Reads a saved classifier.

    Raises:
        ModelError: The file is damaged or holds another model.
    """
    try:
        model: Any = keras.saving.load_model(path, compile=False)
        return Classifier(
            model=model,
            resize=model.get_layer("resize"),
            scale=model.get_layer("scale"),
            backbone=model.get_layer("backbone"),
            head=model.get_layer("head"),
        )
    except Exception as error:  # zipfile, h5py, json and Keras each raise their own
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path} is damaged or was not written by pneumo-keras: {reason}. Train again."
        ) from error
