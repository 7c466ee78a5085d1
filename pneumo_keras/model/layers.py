"""Properties of Keras' layers: the order in which they run, their weights, first kernels."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from jaxtyping import Float32, Float64


def list_operations(model: Any) -> list[Any]:
    """All that computes in a model, in an order in which it can run."""
    return [one for one in model.operations if type(one) is not keras.layers.InputLayer]


def to_float64(variable: Any) -> Float64[np.ndarray, "..."]:
    """A Keras variable's value."""
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def find_infinite(model: Any) -> str | None:
    """The path of a variable that has NaN or infinite values, if there is one."""
    for variable in model.variables:
        if not np.isfinite(np.asarray(keras.ops.convert_to_numpy(variable))).all():
            return variable.path
    return None


def build_glorot(seed: int) -> Callable[[tuple[int, ...]], Float32[np.ndarray, "..."]]:
    """Glorot's uniform kernels by shape, one after the other.

    References:
        Glorot, X. & Bengio, Y. (2010). Understanding the difficulty of training deep feedforward neural
        networks. AISTATS.
    """
    random = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
        *window, inputs, outputs = shape
        limit = np.float32(np.sqrt(6 / (np.prod(window) * (inputs + outputs))))
        return (2 * random.random(shape, np.float32) - 1) * limit

    return draw
