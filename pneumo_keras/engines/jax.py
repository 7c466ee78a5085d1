"""The backbone as a short JAX program: the same features, in a fraction of the time.

1x1 convolutions of one value are joined into one matrix product, and average pooling moves behind the
1x1 convolutions that follow it, where there are fewer channels. All of it is exact except for rounding.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Float32

from pneumo_keras.engines.graph import (
    IMAGES,
    AveragePooling,
    Concatenation,
    Convolution,
    Flattening,
    Graph,
    MaxPooling,
    PixelMean,
    Step,
    Window,
    read_graph,
)
from pneumo_keras.engines.runner import Runner, run_ahead
from pneumo_keras.engines.table import Precision
from pneumo_keras.runtime.private_apis import XLA_CPU_OPTIONS

Maps = Float[Array, "n _height _width _channels"]

# Images that pass the CPU together. Measured: 106, 97 and 98 ms of one core an image for 2, 4 and 8.
BLOCK = 4


@dataclass(frozen=True)
class Product:
    """All 1x1 convolutions of one value as one matrix product, each with the pooling moved behind it."""

    source: str
    parts: tuple[tuple[Convolution, AveragePooling | None], ...]


def build_runner(backbone: keras.Model, *, precision: Precision) -> Runner:
    """Rewrites a frozen backbone as a program for the device on which JAX runs.

    On JAX's CPU bfloat16 is slower than float32. ModelError for what has no exact rewriting.
    """
    graph = read_graph(backbone)
    steps = plan_steps(graph)
    parameters = [tuple(jnp.asarray(array, precision) for array in _fold(step)) for step in steps]

    def apply(
        parameters: Sequence[tuple[Array, ...]], images: Float32[Array, "n size size 3"]
    ) -> Float32[Array, "n d"]:
        values: dict[str, Array] = {IMAGES: images.astype(precision)}
        for step, arrays in zip(steps, parameters, strict=True):
            values |= _run(step, values, arrays)
        return values[graph.output].astype(jnp.float32)

    def apply_in_blocks(
        parameters: Sequence[tuple[Array, ...]], images: Float32[Array, "n size size 3"]
    ) -> Float32[Array, "n d"]:
        size = max(k for k in range(1, BLOCK + 1) if len(images) % k == 0)
        blocks = images.reshape(len(images) // size, size, *images.shape[1:])
        return lax.collapse(lax.map(functools.partial(apply, parameters), blocks), 0, 2)

    if jax.default_backend() == "cpu":
        program = jax.jit(apply_in_blocks, compiler_options=XLA_CPU_OPTIONS)
    else:
        program = jax.jit(apply)
    return functools.partial(run_ahead, functools.partial(program, parameters))


def plan_steps(graph: Graph) -> list[Step | Product]:
    """The graph's steps as the program does them, each product in the position of its first part."""
    moved = _find_movable_pools(graph)
    planned: dict[str, Step | Product] = {}
    for step in graph.steps:
        if isinstance(step, Convolution) and step.window.is_pointwise:
            pool = moved.get(step.sources[0])
            (source,) = pool.sources if pool else step.sources
            before = planned.get(f"products of {source}")
            parts = before.parts if isinstance(before, Product) else ()
            planned[f"products of {source}"] = Product(source, (*parts, (step, pool)))
        elif step.name not in moved:
            planned[step.name] = step
    return list(planned.values())


def _find_movable_pools(graph: Graph) -> dict[str, AveragePooling]:
    """Average poolings, by name, whose value goes only to 1x1 convolutions."""
    users = Counter([graph.output, *(source for step in graph.steps for source in step.sources)])
    pointwise = Counter(
        step.sources[0] for step in graph.steps if isinstance(step, Convolution) and step.window.is_pointwise
    )
    return {
        step.name: step
        for step in graph.steps
        if isinstance(step, AveragePooling)
        and step.window.strides == (1, 1)
        and users[step.name] == pointwise[step.name]
    }


def _fold(step: Step | Product) -> tuple[np.ndarray, ...]:
    """Kernel and bias of a step that has them; those of a product (channels, filters) and (filters)."""
    match step:
        case Convolution():
            return step.fold()
        case Product(parts=parts):
            kernels, biases = zip(*(convolution.fold() for convolution, _ in parts), strict=True)
            return np.concatenate(kernels, axis=-1)[0, 0], np.concatenate(biases)
    return ()


def _run(step: Step | Product, values: Mapping[str, Array], arrays: tuple[Array, ...]) -> dict[str, Array]:
    """The values that a step makes, by name."""
    if isinstance(step, Product):
        kernel, bias = arrays
        ends = np.cumsum([convolution.layer.filters for convolution, _ in step.parts])[:-1]
        products = jnp.split(values[step.source] @ kernel, ends, axis=-1)
        return {
            convolution.name: _finish(convolution, _average(pool.window, maps) if pool else maps, part)
            for (convolution, pool), maps, part in zip(
                step.parts, products, jnp.split(bias, ends), strict=True
            )
        }
    maps, *others = [values[source] for source in step.sources]
    match step:
        case Convolution(window=window):
            kernel, bias = arrays
            order = ("NHWC", "HWIO", "NHWC")
            sums = lax.conv_general_dilated(
                maps, kernel, window.strides, window.padding, dimension_numbers=order
            )
            return {step.name: _finish(step, sums, bias)}
        case MaxPooling(window=window):
            return {step.name: _slide(window, jnp.maximum, maps, -jnp.inf)}
        case AveragePooling(window=window):
            return {step.name: _average(window, maps)}
        case PixelMean():  # summed in float32 whatever the precision
            return {step.name: jnp.mean(maps, axis=(1, 2), dtype=jnp.float32)}
        case Flattening():
            return {step.name: lax.collapse(maps, 1)}
        case Concatenation():
            return {step.name: jnp.concatenate([maps, *others], axis=-1)}
    raise NotImplementedError(step)


def _finish(convolution: Convolution, maps: Maps, bias: Float[Array, " filters"]) -> Maps:
    maps = maps + bias
    return jax.nn.relu(maps) if convolution.relu else maps


def _average(window: Window, maps: Maps) -> Maps:
    ones = jnp.ones((1, *maps.shape[1:3], 1), maps.dtype)
    return _slide(window, jnp.add, maps, 0.0) / _slide(window, jnp.add, ones, 0.0)


def _slide(window: Window, combine: Callable[..., Array], maps: Maps, fill: float) -> Maps:
    """Combines shifted copies of the padded maps, first along height, then along width."""
    pads = lax.padtype_to_pads(maps.shape[1:3], window.size, window.strides, window.padding)
    maps = jnp.pad(maps, ((0, 0), *pads, (0, 0)), constant_values=fill)
    for axis, size, stride in zip((1, 2), window.size, window.strides, strict=True):
        last = maps.shape[axis] - size + 1
        shifted = [lax.slice_in_dim(maps, i, i + last, stride, axis) for i in range(size)]
        maps = functools.reduce(combine, shifted)
    return maps
