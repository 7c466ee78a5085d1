"""The backbone as a short JAX program: the same features, in a fraction of the time.

`write_program` plans the steps of the graph: 1x1 convolutions of one input joined into one matrix
product, average pooling moved behind the 1x1 convolutions that follow it, where it meets fewer
channels. On a CPU the larger convolutions run by Winograd's minimal filtering. All of it is exact but
for rounding.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
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
    read_graph,
)
from pneumo_keras.engines.jax_operations import Maps, average, convolve, maximum
from pneumo_keras.engines.runner import Runner, run_ahead
from pneumo_keras.engines.table import Precision
from pneumo_keras.engines.winograd import choose_axis, filter_maps, to_point_kernels

Values = Mapping[str, Array]
Parameters = Mapping[str, Mapping[str, Array]]

# Images that pass the CPU together. Measured: 106, 97 and 98 ms of one core an image for 2, 4 and 8.
BLOCK = 4

# The compiler's newer kernels (YNNPACK) run VALID convolutions at 20-45 GFLOP/s a core where its
# older ones (Eigen) reach 100-130; the empty list of uses chooses the older.
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}


@dataclass(frozen=True)
class Direct:
    """A convolution as the compiler does it."""

    convolution: Convolution

    @property
    def name(self) -> str:
        """Of the step and of the value that it makes."""
        return self.convolution.name

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Kernel and bias."""
        kernel, bias = self.convolution.fold()
        return {"kernel": kernel, "bias": bias}

    def run(self, values: Values, arrays: Values) -> dict[str, Array]:
        """The value that it makes."""
        (source,), window = self.convolution.sources, self.convolution.window
        maps = convolve(values[source], arrays["kernel"], window.strides, window.padding)
        return {self.name: finish(self.convolution, maps, arrays["bias"])}


@dataclass(frozen=True)
class Filtered:
    """A convolution by minimal filtering along one axis."""

    convolution: Convolution
    axis: int

    @property
    def name(self) -> str:
        """Of the step and of the value that it makes."""
        return self.convolution.name

    def to_arrays(self) -> dict[str, np.ndarray]:
        """One kernel for each point, and the bias."""
        kernel, bias = self.convolution.fold()
        return {"kernels": to_point_kernels(kernel, self.axis), "bias": bias}

    def run(self, values: Values, arrays: Values) -> dict[str, Array]:
        """The value that it makes."""
        (source,), window = self.convolution.sources, self.convolution.window
        maps = filter_maps(values[source], arrays["kernels"], window, self.axis)
        return {self.name: finish(self.convolution, maps, arrays["bias"])}


@dataclass(frozen=True)
class Product:
    """All 1x1 convolutions of one value, as one matrix product.

    Attributes:
        source: The value.
        parts: The convolutions, each with the average pooling that was moved behind it.
    """

    source: str
    parts: tuple[tuple[Convolution, AveragePooling | None], ...]

    @property
    def name(self) -> str:
        """Of the step; the values that it makes have those of the convolutions."""
        return f"products of {self.source}"

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Kernel (channels, filters of all parts) and bias."""
        kernels, biases = zip(*(convolution.fold() for convolution, _ in self.parts), strict=True)
        kernel = np.concatenate([kernel[0, 0] for kernel in kernels], axis=-1)
        return {"kernel": kernel, "bias": np.concatenate(biases)}

    def run(self, values: Values, arrays: Values) -> dict[str, Array]:
        """The values of all parts."""
        ends = np.cumsum([convolution.filters for convolution, _ in self.parts])[:-1]
        outputs = jnp.split(values[self.source] @ arrays["kernel"], ends, axis=-1)
        biases = jnp.split(arrays["bias"], ends)
        return {
            convolution.name: finish(convolution, average(pool.window, maps) if pool else maps, bias)
            for (convolution, pool), maps, bias in zip(self.parts, outputs, biases, strict=True)
        }


@dataclass(frozen=True)
class Plain:
    """A step without parameters."""

    step: MaxPooling | AveragePooling | PixelMean | Flattening | Concatenation

    @property
    def name(self) -> str:
        """Of the step and of the value that it makes."""
        return self.step.name

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def run(self, values: Values, arrays: Values) -> dict[str, Array]:
        """The value that it makes."""
        maps = [values[source] for source in self.step.sources]
        match self.step:
            case MaxPooling(window=window):
                value = maximum(window, maps[0])
            case AveragePooling(window=window):
                value = average(window, maps[0])
            case PixelMean():  # summed in float32 whatever the precision
                value = jnp.mean(maps[0], axis=(1, 2), dtype=jnp.float32)
            case Flattening():
                value = lax.collapse(maps[0], 1)
            case Concatenation():
                value = jnp.concatenate(maps, axis=-1)
        return {self.name: value}


ProgramStep = Direct | Filtered | Product | Plain


@dataclass(frozen=True)
class JaxProgram:
    """A backbone as a program.

    Attributes:
        steps: In the order in which they run.
        parameters: Arrays of each step that has any, in the precision of the computation.
        output: Name of the value that holds the features.
        precision: Of the computation.
        platform: "cpu", or an accelerator for plain steps over the whole batch.
    """

    steps: tuple[ProgramStep, ...]
    parameters: Parameters
    output: str
    precision: Precision
    platform: str

    def apply(self, parameters: Parameters, images: Float32[Array, "n size size 3"]) -> Float32[Array, "n d"]:
        """Features of images in [-1, 1], all at once."""
        values: dict[str, Array] = {IMAGES: images.astype(self.precision)}
        for step in self.steps:
            values |= step.run(values, parameters.get(step.name, {}))
        return values[self.output].astype(jnp.float32)

    def apply_in_blocks(
        self, parameters: Parameters, images: Float32[Array, "n size size 3"]
    ) -> Float32[Array, "n d"]:
        """The same, a few images after the other."""
        size = max(k for k in range(1, BLOCK + 1) if len(images) % k == 0)
        blocks = images.reshape(len(images) // size, size, *images.shape[1:])
        features = lax.map(functools.partial(self.apply, parameters), blocks)
        return features.reshape(len(images), features.shape[-1])

    @functools.cached_property
    def _compiled(self) -> Callable[..., Array]:
        if self.platform == "cpu":
            return jax.jit(self.apply_in_blocks, compiler_options=choose_cpu_options())
        return jax.jit(self.apply)

    def compute(self, images: Float32[np.ndarray, "n size size 3"]) -> Float32[Array, "n d"]:
        """Features of images in [-1, 1], still under way; compiles once for each shape."""
        return self._compiled(self.parameters, images)


def build_runner(backbone: keras.Model, *, precision: Precision) -> Runner:
    """Rewrites a backbone as a program for the device on which JAX runs.

    Args:
        backbone: Images (n, size, size, 3) in [-1, 1] -> features (n, d), frozen.
        precision: Of parameters and computation. On JAX's CPU bfloat16 is slower than float32.

    Raises:
        ModelError: The backbone holds something that has no exact rewriting.
    """
    program = write_program(read_graph(backbone), precision=precision, platform=jax.default_backend())
    return functools.partial(run_ahead, program.compute)


def write_program(graph: Graph, *, precision: Precision, platform: str) -> JaxProgram:
    """Writes a graph as a program with the same features.

    Args:
        graph: Read from the backbone.
        precision: Of parameters and computation.
        platform: As JAX names it.
    """
    steps = plan_steps(graph, filtered=platform == "cpu" and precision == "float32")
    parameters = {
        step.name: {key: jnp.asarray(array, precision) for key, array in arrays.items()}
        for step in steps
        if (arrays := step.to_arrays())
    }
    return JaxProgram(steps, parameters, graph.output, precision, platform)


def plan_steps(graph: Graph, *, filtered: bool) -> tuple[ProgramStep, ...]:
    """The graph's steps as a program does them, products where the first of their parts stood.

    Args:
        graph: Read from the backbone.
        filtered: Whether convolutions run by minimal filtering where that pays.
    """
    moved = find_movable_pools(graph)
    planned: dict[str, ProgramStep] = {}
    for step in graph.steps:
        if isinstance(step, Convolution) and step.window.is_pointwise:
            pool = moved.get(step.sources[0])
            (source,) = pool.sources if pool else step.sources
            name = f"products of {source}"
            before = planned.get(name)
            parts = before.parts if isinstance(before, Product) else ()
            planned[name] = Product(source, (*parts, (step, pool)))
        elif isinstance(step, Convolution):
            axis = choose_axis(step) if filtered else None
            planned[step.name] = Direct(step) if axis is None else Filtered(step, axis)
        elif step.name not in moved:
            planned[step.name] = Plain(step)
    return tuple(planned.values())


def find_movable_pools(graph: Graph) -> dict[str, AveragePooling]:
    """Average poolings, by name, whose value goes to nothing but 1x1 convolutions."""
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


def finish(convolution: Convolution, maps: Maps, bias: Float[Array, " filters"]) -> Maps:
    """What follows the products of a convolution: its bias and ReLU."""
    maps = maps + bias
    return jax.nn.relu(maps) if convolution.relu else maps


def choose_cpu_options() -> dict[str, str]:
    """The compiler's options on a CPU; none where it does not know this experimental one."""
    try:
        jax.jit(jnp.negative, compiler_options=CPU_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return CPU_OPTIONS
