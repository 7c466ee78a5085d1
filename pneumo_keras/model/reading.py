"""What all readers of Keras models share: they rewrite a part of a classifier exactly, or refuse it."""

from typing import Any

import keras
import numpy as np
from jaxtyping import Float64

from pneumo_keras.errors import ModelError


def list_operations(model: Any) -> list[Any]:
    """All that computes, in an order in which it can run; nothing where a model is no graph."""
    return [one for one in getattr(model, "operations", ()) if type(one) is not keras.layers.InputLayer]


def list_layers(backbone: Any) -> list[Any]:
    """The layers of a functional graph but its input, in an order in which they can run.

    Raises:
        ModelError: It is no such graph.
    """
    layers = list_operations(backbone)
    if not layers or len(backbone.inputs) != 1 or len(backbone.outputs) != 1:
        raise ModelError(
            "Only a functional graph with one input and one output can be rewritten. "
            f"Received: {type(backbone).__name__} '{backbone.name}'"
        )
    if len(backbone.output_shape) != 2:
        raise ModelError(
            f"Cannot rewrite the backbone: it must end in features (n, d). Received: {backbone.output_shape}"
        )
    return layers


def to_float64(variable: Any) -> Float64[np.ndarray, "..."]:
    """A Keras variable's value."""
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def to_refusal(layer: Any, rule: str, received: object = None, *, part: str = "backbone") -> ModelError:
    """The error that names the part of the classifier, its layer and the rule that the layer breaks."""
    kind = type(layer).__name__
    end = "" if received is None else f". Received: {received}"
    return ModelError(f"Cannot rewrite the {part}: {kind} '{layer.name}' {rule}{end}")
