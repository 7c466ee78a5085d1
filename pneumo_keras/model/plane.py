"""A head around a film: the plane that it is there, read from its layers, the same on every backend."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64

from pneumo_keras.arrays import Features
from pneumo_keras.errors import ModelError

TOLERANCE = 1e-3  # of log odds, here against the head's own; relative where they are above 1

Array = Float64[np.ndarray, "..."]


@dataclass(frozen=True)
class Plane:
    """What the mean log odds of a head's members are around each film.

    Attributes:
        gradient: Of the mean log odds by the features.
        log_odds: Their mean over the members.
    """

    gradient: Float64[np.ndarray, "n d"]
    log_odds: Float64[np.ndarray, " n"]


def read_plane(head: keras.Model, features: Features) -> Plane:
    """The head around each film, exact as long as the same hidden units stay active.

    Args:
        head: From features (n, d) to log odds (n, members), as `build_head` makes it.
        features: Of films.

    Raises:
        ModelError: It is another head.
    """
    try:
        plane = _read_layers({layer.name: layer for layer in head.layers}, features.astype(np.float64))
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise _to_refusal(head) from error
    own: Any = head.predict_on_batch(features)
    # Layers that nobody has asked about would show here.
    if not np.allclose(plane.log_odds, np.mean(own, axis=1), rtol=TOLERANCE, atol=TOLERANCE):
        raise _to_refusal(head)
    return plane


def _read_layers(layers: dict[str, Any], features: Array) -> Plane:
    mean, deviation = _read_moments(layers)
    known = (features - mean) / deviation
    kernel, bias = _read_dense(layers["logits"])
    if kernel.shape[-1] == 2:  # of a softmax over normal and pneumonia
        kernel, bias = kernel[..., 1:] - kernel[..., :1], bias[..., 1:] - bias[..., :1]
    kernel, bias = kernel[..., 0], bias[..., 0]  # (members, inputs), (members)
    if "hidden" not in layers:
        gradient = np.broadcast_to(kernel.mean(axis=0), features.shape)
        return Plane(gradient / deviation, (known @ kernel.T + bias).mean(axis=1))
    weights, offsets = _read_dense(layers["hidden"])
    units = np.einsum("nd,mdh->nmh", known, weights, optimize=True) + offsets
    log_odds = np.einsum("nmh,mh->nm", np.maximum(units, 0), kernel) + bias
    gradient = np.einsum("nmh,mdh->nmd", (units > 0) * kernel, weights, optimize=True).mean(axis=1)
    return Plane(gradient / deviation, log_odds.mean(axis=1))


def _read_moments(layers: dict[str, Any]) -> tuple[Array, Array]:
    """Mean and standard deviation that features are standardised by."""
    if "standardise" not in layers:
        return np.zeros(1), np.ones(1)
    layer = layers["standardise"]
    return _to_array(layer.mean)[0], np.sqrt(_to_array(layer.variance)[0])


def _read_dense(layer: Any) -> tuple[Array, Array]:
    return _to_array(layer.kernel), _to_array(layer.bias)


def _to_array(variable: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def _to_refusal(head: keras.Model) -> ModelError:
    names = ", ".join(layer.name for layer in head.layers)
    return ModelError(
        "Only a head of standardisation or none, one hidden ReLU layer or none, and logits can be explained. "
        f"Received: {names}"
    )
