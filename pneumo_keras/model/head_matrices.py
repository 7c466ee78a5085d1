"""The head as matrices, read once from its Keras layers: exact, in float64, or refused."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64

from pneumo_keras.model.head import EQUATION
from pneumo_keras.model.reading import list_operations, to_float64, to_refusal

PART = "head"  # of the classifier, as refusals name it
SIDE_BY_SIDE = "nmh,mho->nmo"  # members on values of their own
ENDS = {1: ["GetItem"], 2: ["GetItem", "GetItem", "Subtract"]}  # from one or two outputs to log odds


@dataclass(frozen=True)
class MemberLayer:
    """For each member values @ kernel + bias, then ReLU or nothing."""

    kernels: Float64[np.ndarray, "members inputs outputs"]
    biases: Float64[np.ndarray, "members outputs"]
    relu: bool


@dataclass(frozen=True)
class HeadMembers:
    """From features (n, d) to log odds (n, members).

    Attributes:
        shift: Taken from the features first, if any. Not folded into the biases: these would become
            differences of large numbers.
        layers: One after the other, the last with one output.
    """

    shift: Float64[np.ndarray, " d"] | None
    layers: tuple[MemberLayer, ...]


def read_members(head: keras.Model) -> HeadMembers:
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
            shift, deviation = _read_moments(layer)
        elif kind is keras.layers.EinsumDense and not ends:
            _check_dense(layer, EQUATION if not layers else SIDE_BY_SIDE)
            layers.append(layer)
        elif kind.__name__ in ENDS[2] and layers:
            ends.append(kind.__name__)
        elif kind is not keras.layers.Dropout:
            raise to_refusal(layer, "has no exact rewriting", part=PART)
    outputs = layers[-1].kernel.shape[-1] if layers else 0
    if ends != ENDS.get(outputs) or layers[-1].activation is not keras.activations.linear:
        raise to_refusal(head, "must end in log odds, from one output or two", outputs, part=PART)
    return HeadMembers(shift, _fold(layers, deviation))


def _fold(layers: list[Any], deviation: Float64[np.ndarray, " _d"]) -> tuple[MemberLayer, ...]:
    kernels = [to_float64(layer.kernel) for layer in layers]
    biases = [to_float64(layer.bias) for layer in layers]
    kernels[0] = kernels[0] / deviation[:, None]
    if kernels[-1].shape[-1] == 2:
        kernels[-1] = kernels[-1][..., 1:] - kernels[-1][..., :1]
        biases[-1] = biases[-1][..., 1:] - biases[-1][..., :1]
    return tuple(
        MemberLayer(kernel, bias, layer.activation is keras.activations.relu)
        for kernel, bias, layer in zip(kernels, biases, layers, strict=True)
    )


def _read_moments(layer: Any) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
    """Mean and standard deviation of each feature, as Keras bounds them."""
    if layer.invert or layer.mean.shape != (1, layer.input.shape[-1]):
        raise to_refusal(layer, "must standardise each feature", part=PART)
    variance = to_float64(layer.variance)[0]
    return to_float64(layer.mean)[0], np.maximum(np.sqrt(variance), keras.config.epsilon())


def _check_dense(layer: Any, equation: str) -> None:
    if layer.equation != equation or layer.bias_axes != "mo":
        raise to_refusal(layer, f"must compute {equation} with a bias", layer.equation, part=PART)
    if layer.activation not in (keras.activations.linear, keras.activations.relu):
        raise to_refusal(layer, "must have no activation but relu", layer.activation.__name__, part=PART)
