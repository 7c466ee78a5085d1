"""The head as plain matrices: all members side by side."""

from dataclasses import dataclass

import keras
import numpy as np
from jaxtyping import Float64
from scipy.linalg import block_diag

from pneumo_keras.model.head_matrices import MemberLayer, read_members


@dataclass(frozen=True)
class Dense:
    """Values @ kernel + bias, then ReLU or nothing."""

    kernel: Float64[np.ndarray, "inputs outputs"]
    bias: Float64[np.ndarray, " outputs"]
    relu: bool


@dataclass(frozen=True)
class HeadMatrices:
    """From features (n, d) to log odds (n, members).

    Attributes:
        shift: Taken from the features first, if any.
        layers: One after the other, the last with log odds as its outputs.
    """

    shift: Float64[np.ndarray, " d"] | None
    layers: tuple[Dense, ...]


def read_head(head: keras.Model) -> HeadMatrices:
    """Reads the members and joins them.

    Args:
        head: Features (n, d) -> log odds (n, members), as `model.head.build_head` makes it.

    Raises:
        ModelError: It holds something that has no exact rewriting.
    """
    members = read_members(head)
    first, *others = members.layers
    # All members of the first layer see the same features, those of a second one their own hidden units.
    layers = [to_dense(first, np.concatenate(list(first.kernels), axis=1))]
    layers += [to_dense(layer, np.asarray(block_diag(*layer.kernels))) for layer in others]
    return HeadMatrices(members.shift, tuple(layers))


def to_dense(layer: MemberLayer, kernel: Float64[np.ndarray, "inputs outputs"]) -> Dense:
    """A layer of several members as one, with their kernels joined."""
    return Dense(kernel, layer.biases.reshape(-1), layer.relu)
