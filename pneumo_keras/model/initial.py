"""Initial weights by NumPy: JAX would compile a program for each of the shapes that Keras draws."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from jaxtyping import Float32

Shape = tuple[int, ...]
Draw = Callable[[Shape], Float32[np.ndarray, "..."]]


@contextlib.contextmanager
def replace_draws(draw: Draw, zeros: Draw | None = None) -> Iterator[None]:
    """Layers that are built meanwhile start with these kernels, whatever their initialisers would draw.

    Args:
        draw: A kernel from its shape; `draw_nothing` for layers that are about to get their weights.
        zeros: Zeros from a shape, for all that is no kernel; `draw_nothing` if nothing is said.
    """
    zeros = zeros or draw_nothing
    draws = {
        keras.initializers.VarianceScaling: draw,  # Glorot's is one
        keras.initializers.Zeros: zeros,
        keras.initializers.Ones: lambda shape: zeros(shape) + np.float32(1),
    }
    with contextlib.ExitStack() as stack:
        for initializer, draw_one in draws.items():
            stack.enter_context(_replace_call(initializer, draw_one))
        yield


def draw_nothing(shape: Shape) -> Float32[np.ndarray, "..."]:
    """Zeros."""
    return np.zeros(shape, np.float32)


def build_glorot(seed: int) -> Draw:
    """Glorot's uniform draws, one after the other.

    References:
        Glorot, X. & Bengio, Y. (2010). Understanding the difficulty of training deep feedforward neural
        networks. AISTATS.
    """
    random = np.random.default_rng(seed)

    def draw(shape: Shape) -> Float32[np.ndarray, "..."]:
        *window, inputs, outputs = shape
        limit = np.float32(np.sqrt(6 / (np.prod(window) * (inputs + outputs))))
        return (2 * random.random(shape, np.float32) - 1) * limit

    return draw


@contextlib.contextmanager
def _replace_call(initializer: Any, draw: Draw) -> Iterator[None]:
    own = initializer.__call__
    initializer.__call__ = lambda _, shape, dtype=None: keras.ops.convert_to_tensor(draw(shape), dtype)
    try:
        yield
    finally:
        initializer.__call__ = own
