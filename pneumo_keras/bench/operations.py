"""How much arithmetic the network takes, and how much of it a plain matrix product does in a second."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pneumo_keras.runtime.backend import describe_device

PRODUCT_EDGE = 2048


def count_operations(backbone: keras.Model) -> int:
    """Additions and multiplications of the convolutions for one image; all the rest is small."""
    convolutions: list[Any] = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    return sum(
        2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3]) for layer in convolutions
    )


def measure_product_rate(
    *, edge: int = PRODUCT_EDGE, repeats: int = 5, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Operations a second of a square float32 matrix product, the best of several.

    Of the backend with its own settings (a GPU may round to TF32); on a CPU of NumPy, too.
    """
    on_cpu = describe_device() == "cpu"
    # On an accelerator several in a row, so that the way there and back does not count.
    chain = 1 if on_cpu else 32
    left, right = np.random.default_rng(0).normal(0, edge**-0.5, (2, edge, edge)).astype(np.float32)
    on_device = keras.ops.convert_to_tensor(left), keras.ops.convert_to_tensor(right)

    def multiply_on_backend() -> None:
        product: Any = on_device[0]
        for _ in range(chain):
            product = keras.ops.matmul(product, on_device[1])
        keras.ops.convert_to_numpy(product[0, 0])  # waits for all of it

    works = [(multiply_on_backend, chain)]
    if on_cpu:
        works.append((functools.partial(np.matmul, left, right), 1))
    return max(
        count * 2 * edge**3 / _measure_least_seconds(multiply, repeats, clock) for multiply, count in works
    )


def _measure_least_seconds(work: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    work()
    durations = []
    for _ in range(repeats):
        started = clock()
        work()
        durations.append(clock() - started)
    return min(durations)
