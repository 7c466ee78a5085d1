"""The head as plain matrices, read from its Keras layers: all members side by side."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64
from scipy.linalg import block_diag

from pneumo_keras.engines.graph import to_float64, to_refusal
from pneumo_keras.exports.preparation import list_operations
from pneumo_keras.model.head import EQUATION

PART = "head"
SIDE_BY_SIDE = "nmh,mho->nmo"  # members on values of their own
ENDS = {1: ["GetItem"], 2: ["GetItem", "GetItem", "Subtract"]}  # from one or two outputs to log odds

MemberKernels = Float64[np.ndarray, "members inputs outputs"]
MemberBiases = Float64[np.ndarray, "members outputs"]


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
        shift: Taken from the features first, if any. Not folded into the biases: these would become
            differences of large numbers.
        layers: One after the other.
    """

    shift: Float64[np.ndarray, " d"] | None
    layers: tuple[Dense, ...]


def read_head(head: keras.Model) -> HeadMatrices:
    """Reads the members, with deviations and the difference of two outputs folded into their kernels.

    Args:
        head: Features (n, d) -> log odds (n, members), as `model.head.build_head` makes it.

    Raises:
        ModelError: It holds something that has no exact rewriting.
    """
    shift, deviation = None, np.ones(1)
    layers: list[Any] = []
    ends: list[str] = []
    for layer in list_operations(head):
        kind = type(layer)
        if kind is keras.layers.Normalization and not layers and not ends:
            shift, deviation = read_moments(layer)
        elif kind is keras.layers.EinsumDense and not ends:
            check_dense(layer, EQUATION if not layers else SIDE_BY_SIDE)
            layers.append(layer)
        elif kind.__name__ in ENDS[2] and layers:
            ends.append(kind.__name__)
        elif kind is not keras.layers.Dropout:
            raise to_refusal(layer, "has no exact rewriting", part=PART)
    outputs = layers[-1].kernel.shape[-1] if layers else 0
    if ends != ENDS.get(outputs) or layers[-1].activation is not keras.activations.linear:
        raise to_refusal(head, "must end in log odds, from one output or two", outputs, part=PART)
    return HeadMatrices(shift, join_members(layers, deviation))


def read_moments(layer: Any) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
    """Mean and standard deviation of each feature, as Keras bounds them.

    Raises:
        ModelError: The layer does not standardise each feature.
    """
    if layer.invert or layer.mean.shape != (1, layer.input.shape[-1]):
        raise to_refusal(layer, "must standardise each feature", part=PART)
    variance = to_float64(layer.variance)[0]
    return to_float64(layer.mean)[0], np.maximum(np.sqrt(variance), keras.config.epsilon())


def check_dense(layer: Any, equation: str) -> None:
    """Checks that a layer is a kernel and a bias for each member.

    Raises:
        ModelError: It is not.
    """
    if layer.equation != equation or layer.bias_axes != "mo":
        raise to_refusal(layer, f"must compute {equation} with a bias", layer.equation, part=PART)
    if layer.activation not in (keras.activations.linear, keras.activations.relu):
        raise to_refusal(layer, "must have no activation but relu", layer.activation.__name__, part=PART)


def join_members(layers: list[Any], deviation: Float64[np.ndarray, " _d"]) -> tuple[Dense, ...]:
    """Layers of several members as layers of one, the last with log odds as its outputs."""
    kernels = [to_float64(layer.kernel) for layer in layers]
    biases = [to_float64(layer.bias) for layer in layers]
    kernels[0] = kernels[0] / deviation[:, None]
    if kernels[-1].shape[-1] == 2:
        kernels[-1] = kernels[-1][..., 1:] - kernels[-1][..., :1]
        biases[-1] = biases[-1][..., 1:] - biases[-1][..., :1]
    # All members of the first layer see the same features, those of a second one their own hidden units.
    joined = [np.concatenate(list(kernels[0]), axis=1), *(block_diag(*kernel) for kernel in kernels[1:])]
    return tuple(
        Dense(kernel, bias.reshape(-1), layer.activation is keras.activations.relu)
        for kernel, bias, layer in zip(joined, biases, layers, strict=True)
    )
