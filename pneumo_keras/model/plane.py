"""A head around an image: the plane that it is there, computed from its matrices, the same on every backend."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64

from pneumo_keras.arrays import Features
from pneumo_keras.errors import ModelError
from pneumo_keras.model.head_matrices import HeadMembers, read_members

TOLERANCE = 1e-3  # of log odds, here against the head's own; relative where they are above 1


@dataclass(frozen=True)
class Plane:
    """What the mean log odds of a head's members are around each image.

    Attributes:
        gradient: Of the mean log odds by the features.
        log_odds: Their mean over the members.
    """

    gradient: Float64[np.ndarray, "n d"]
    log_odds: Float64[np.ndarray, " n"]


def read_plane(head: keras.Model, features: Features) -> Plane:
    """The head around each image, exact as long as the same hidden units stay active.

    Args:
        head: From features (n, d) to log odds (n, members), as `build_head` makes it.
        features: Of images.

    Raises:
        ModelError: It is another head.
    """
    try:
        members = read_members(head)
    except ModelError as error:
        raise _to_refusal(head) from error
    plane = _compute_plane(members, features.astype(np.float64))
    own: Any = head.predict_on_batch(features)
    # Layers that nobody has asked about would show here.
    if not np.allclose(plane.log_odds, np.mean(own, axis=1), rtol=TOLERANCE, atol=TOLERANCE):
        raise _to_refusal(head)
    return plane


def _compute_plane(members: HeadMembers, features: Float64[np.ndarray, "n d"]) -> Plane:
    values = features if members.shift is None else features - members.shift
    slopes = []  # of ReLU or nothing: members, images, outputs
    for layer in members.layers:
        values = values @ layer.kernels + layer.biases[:, None]
        slopes.append(values > 0 if layer.relu else np.ones(values.shape))
        values = values * slopes[-1]
    gradient = np.ones(values.shape)
    for layer, slope in zip(reversed(members.layers), reversed(slopes), strict=True):
        gradient = (gradient * slope) @ layer.kernels.swapaxes(1, 2)
    return Plane(gradient.mean(axis=0), values[..., 0].mean(axis=0))


def _to_refusal(head: keras.Model) -> ModelError:
    names = ", ".join(layer.name for layer in head.layers)
    return ModelError(
        "Only a head of standardisation or none, one hidden ReLU layer or none, and logits can be explained. "
        f"Received: {names}"
    )
