"""The frozen backbone as a short JAX program: the same features, in a fraction of the time.

`freeze` walks the Keras graph once and writes down steps: BatchNorm folded into the convolution
before it, 1x1 convolutions of one input joined into one matrix product, average pooling moved
behind the 1x1 convolution that follows it, where it meets fewer channels. On a CPU the larger
convolutions run by Winograd's minimal filtering. All of it is exact but for rounding, and every graph
that is not understood is refused.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Float32

from pneumo_keras.errors import ModelError

Maps = Float[Array, "n height width channels"]
Values = Mapping[str, Array]
Parameters = Mapping[str, Mapping[str, Array]]
Precision = Literal["float32", "bfloat16"]

IMAGES = "images"

# Images that pass the CPU together. Measured: 106, 97 and 98 ms of one core an image for 2, 4 and 8.
BLOCK = 4

# The compiler's newer kernels (YNNPACK) run VALID convolutions at 20-45 GFLOP/s a core where its
# older ones (Eigen) reach 100-130; the empty list of uses chooses the older.
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}

# Outputs of one tile by taps of the kernel, and from which size on minimal filtering pays: it costs
# sums over channels and pixels to save products. Measured at 299 px: from 115 to 97 ms of
# one core an image, where stock Keras takes 200.
TILE = {3: 4, 5: 4, 7: 2}
LEAST_CHANNELS = 48
LEAST_PIXELS = 16


@dataclass(frozen=True)
class Window:
    """How a kernel or a pool slides over height and width; padding is SAME or VALID."""

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str

    @property
    def is_pointwise(self) -> bool:
        """Whether it sees one pixel at a time and every pixel."""
        return self.size == self.strides == (1, 1)

    def reduce(self, combine: Callable[..., Array], maps: Maps, fill: float) -> Maps:
        """Combines shifted copies of the padded maps, first along height, then along width."""
        pads = lax.padtype_to_pads(maps.shape[1:3], self.size, self.strides, self.padding)
        maps = jnp.pad(maps, ((0, 0), *pads, (0, 0)), constant_values=fill)
        for axis, size, stride in zip((1, 2), self.size, self.strides, strict=True):
            last = maps.shape[axis] - size + 1
            shifted = [lax.slice_in_dim(maps, i, i + last, stride, axis) for i in range(size)]
            maps = functools.reduce(combine, shifted)
        return maps

    def average(self, maps: Maps) -> Maps:
        """Mean over the pixels in the window; padding is no pixel."""
        ones = jnp.ones((1, *maps.shape[1:3], 1), maps.dtype)
        return self.reduce(jnp.add, maps, 0) / self.reduce(jnp.add, ones, 0)

    def maximum(self, maps: Maps) -> Maps:
        """Largest value in the window."""
        return self.reduce(jnp.maximum, maps, -jnp.inf)


@dataclass(frozen=True)
class Convolution:
    """One convolution and what follows it: average pooling, bias, ReLU, in this order.

    Attributes:
        name: The value it makes.
        source: The value it takes.
        kernel: Float64 (height, width, channels, filters).
        bias: Float64 (filters,).
        extent: Height and width of its value, None where the graph leaves them open.
    """

    name: str
    source: str
    window: Window
    kernel: np.ndarray
    bias: np.ndarray
    extent: tuple[int | None, int | None]
    pool: Window | None = None
    relu: bool = False

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Kernel and bias as the program takes them."""
        return {"kernel": self.kernel, "bias": self.bias}

    def run(self, values: Values, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Makes the value `name`."""
        window = self.window
        maps = convolve(values[self.source], arrays["kernel"], window.strides, window.padding)
        return {self.name: self.finish(maps, arrays["bias"])}

    def finish(self, maps: Maps, bias: Float[Array, " channels"]) -> Maps:
        """Does what follows the convolution proper."""
        maps = (self.pool.average(maps) if self.pool else maps) + bias
        return jax.nn.relu(maps) if self.relu else maps


@dataclass(frozen=True)
class FilteredConvolution:
    """A convolution whose taps along one axis are run by Winograd's minimal filtering.

    References:
        Lavin and Gray, Fast algorithms for convolutional neural networks, arXiv 1509.09308.
    """

    convolution: Convolution
    axis: int

    @property
    def name(self) -> str:
        """The value it makes."""
        return self.convolution.name

    @property
    def taps(self) -> int:
        """Length of the kernel along the axis."""
        return self.convolution.window.size[self.axis]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """One kernel for each point, of length 1 along the axis, and the bias."""
        _, to_kernel, _ = to_filter(TILE[self.taps], self.taps)
        kernels = np.tensordot(to_kernel, self.convolution.kernel, axes=(1, self.axis))
        kernels = np.expand_dims(kernels, 1 + self.axis)
        return {"kernels": kernels, "bias": self.convolution.bias}

    def run(self, values: Values, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Makes the value `name`."""
        maps, axis, tile = values[self.convolution.source], 1 + self.axis, TILE[self.taps]
        window = self.convolution.window
        pads = lax.padtype_to_pads(maps.shape[1:3], window.size, window.strides, window.padding)
        length = maps.shape[axis] + sum(pads[self.axis]) - self.taps + 1
        to_output, _, to_input = to_filter(tile, self.taps)

        inputs = to_shifts(maps, axis, pads[self.axis][0], tile, self.taps, -(-length // tile))
        pads[self.axis] = (0, 0)
        products = [
            convolve(mix(row, inputs), kernel, (1, 1), pads)
            for row, kernel in zip(to_input, arrays["kernels"], strict=True)
        ]
        outputs = jnp.stack([mix(row, products) for row in to_output], axis + 1)
        outputs = lax.collapse(outputs, axis, axis + 2)
        outputs = lax.slice_in_dim(outputs, 0, length, axis=axis)
        return {self.name: self.convolution.finish(outputs, arrays["bias"])}


@dataclass(frozen=True)
class Product:
    """All 1x1 convolutions of one input, as one matrix product."""

    name: str
    source: str
    parts: tuple[Convolution, ...]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Kernel (channels, filters of all parts) and bias."""
        kernels = [part.kernel[0, 0] for part in self.parts]
        return {
            "kernel": np.concatenate(kernels, axis=-1),
            "bias": np.concatenate([part.bias for part in self.parts]),
        }

    def run(self, values: Values, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Makes the values of all parts."""
        ends = np.cumsum([part.bias.size for part in self.parts])[:-1]
        outputs = jnp.split(values[self.source] @ arrays["kernel"], ends, axis=-1)
        biases = jnp.split(arrays["bias"], ends)
        return {
            part.name: part.finish(maps, bias)
            for part, maps, bias in zip(self.parts, outputs, biases, strict=True)
        }


@dataclass(frozen=True)
class Plain:
    """A step without parameters."""

    name: str
    sources: tuple[str, ...]
    function: Callable[..., Array]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def run(self, values: Values, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Makes the value `name`."""
        return {self.name: self.function(*(values[source] for source in self.sources))}


Step = Convolution | FilteredConvolution | Product | Plain


@dataclass(frozen=True)
class FrozenNetwork:
    """A frozen backbone as a program.

    Attributes:
        steps: In the order in which they run.
        parameters: Arrays of each step that has any, in the precision of the computation.
        output: Name of the value that holds the features.
        precision: Of the computation.
        platform: "cpu", or an accelerator for plain steps over the whole batch.
    """

    steps: tuple[Step, ...]
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

    def extract(self, images: Float32[np.ndarray, "n size size 3"]) -> Float32[np.ndarray, "n d"]:
        """Features of images in [-1, 1]."""
        return np.asarray(self.compute(images))


def freeze(
    backbone: keras.Model, *, precision: Precision = "float32", platform: str | None = None
) -> FrozenNetwork:
    """Rewrites a frozen backbone as a program with the same features.

    Args:
        backbone: A functional graph of convolutions, BatchNorm, ReLU, pooling and concatenation
            over channels, not trainable, images (n, size, size, 3) -> features (n, d).
        precision: Of parameters and computation. On JAX's CPU bfloat16 is slower than float32.
        platform: As JAX names it; where JAX runs by default.

    Raises:
        ModelError: The graph holds something that has no exact rewriting here.
    """
    platform = platform or jax.default_backend()
    steps, output = _Reader(backbone).read()
    if platform == "cpu" and precision == "float32":
        steps = tuple(to_filtered(step) for step in steps)
    parameters = {
        step.name: {key: jnp.asarray(array, precision) for key, array in arrays.items()}
        for step in steps
        if (arrays := step.to_arrays())
    }
    return FrozenNetwork(steps, parameters, output, precision, platform)


def choose_cpu_options() -> dict[str, str]:
    """The compiler's options on a CPU; none where it does not know this experimental one."""
    try:
        jax.jit(jnp.negative, compiler_options=CPU_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return CPU_OPTIONS


def join_products(steps: list[Step]) -> tuple[Step, ...]:
    """Puts the 1x1 convolutions of one input into one product, where the first of them stood."""
    joined: dict[str, Step] = {}
    for step in steps:
        if not (isinstance(step, Convolution) and step.window.is_pointwise):
            joined[step.name] = step
            continue
        name = f"products of {step.source}"
        before = joined.get(name)
        parts = before.parts if isinstance(before, Product) else ()
        joined[name] = Product(name, step.source, (*parts, step))
    return tuple(joined.values())


def to_filtered(step: Step) -> Step:
    """The step by minimal filtering, where that pays."""
    if not isinstance(step, Convolution) or step.window.strides != (1, 1):
        return step
    taps = max(step.window.size)
    axis = 1 if step.window.size[1] == taps else 0
    large = step.kernel.shape[2] >= LEAST_CHANNELS and (step.extent[axis] or 0) >= LEAST_PIXELS
    return FilteredConvolution(step, axis) if large and taps in TILE else step


@functools.cache
def to_filter(tile: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of minimal filtering by Toom and Cook's construction.

    Args:
        tile: Outputs of a tile.
        taps: Length of the kernel; a tile has as many points as tile + taps - 1, at most 8.

    Returns:
        From points to outputs (tile, points), from taps to points (points, taps) and from inputs to
        points (points, points), whose rows are scaled to a largest entry of 1.
    """
    points = tile + taps - 1
    finite = np.array([0, 1, -1, 2, -2, 0.5, -0.5])[: points - 1, None]

    def powers(count: int) -> np.ndarray:
        infinite = np.eye(1, count, count - 1)
        return np.concatenate([finite ** np.arange(count), infinite])

    to_input = np.linalg.inv(powers(points)).T
    to_input[np.abs(to_input) < 1e-12] = 0
    scale = np.abs(to_input).max(axis=1, keepdims=True)
    return powers(tile).T, powers(taps) * scale, to_input / scale


def to_shifts(maps: Maps, axis: int, start: int, tile: int, taps: int, tiles: int) -> list[Maps]:
    """The first inputs of all tiles, the second, and so on, from `start` pixels before the maps."""
    end = tiles * tile + taps - 1 - start - maps.shape[axis]
    pads = [(start, end) if i == axis else (0, 0) for i in range(maps.ndim)]
    maps = jnp.pad(maps, pads)
    last = (tiles - 1) * tile + 1
    return [lax.slice_in_dim(maps, i, i + last, tile, axis) for i in range(tile + taps - 1)]


def mix(weights: np.ndarray, maps: list[Maps]) -> Maps:
    """Weighted sum; terms of weight 0 are left out."""
    terms = [each * float(weight) for weight, each in zip(weights, maps, strict=True) if weight]
    return functools.reduce(jnp.add, terms)


def convolve(maps: Maps, kernel: Array, strides: tuple[int, int], padding: Any) -> Maps:
    """A convolution, channels last."""
    order = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(maps, kernel, strides, padding, dimension_numbers=order)


@dataclass
class _Reader:
    """Reads a Keras graph, layer by layer, into steps.

    Attributes:
        steps: By the name of the value that they make, convolutions still apart.
        values: Name of the value that stands for a Keras tensor, by the tensor's id.
        moved: Source and window of each average pooling that waits for its 1x1 convolutions.
    """

    backbone: keras.Model
    steps: dict[str, Step] = field(default_factory=dict)
    values: dict[int, str] = field(default_factory=dict)
    moved: dict[str, tuple[str, Window]] = field(default_factory=dict)

    def read(self) -> tuple[tuple[Step, ...], str]:
        """The steps and the name of the last value."""
        layers = getattr(self.backbone, "operations", None)
        if not layers or len(self.backbone.inputs) != 1 or len(self.backbone.outputs) != 1:
            raise ModelError(
                "Only a functional graph with one input and one output can be frozen. "
                f"Received: {type(self.backbone).__name__} '{self.backbone.name}'"
            )
        self.users = Counter(id(tensor) for layer in layers for tensor in to_inputs(layer))
        self.pointwise_users = Counter(
            id(layer.input)
            for layer in layers
            if type(layer) is keras.layers.Conv2D and to_window(layer).is_pointwise
        )
        self.users[id(self.backbone.outputs[0])] += 1
        for layer in layers:
            self.values[id(layer.output)] = self.read_layer(layer)
        return join_products(list(self.steps.values())), self.values[id(self.backbone.outputs[0])]

    def read_layer(self, layer: Any) -> str:
        """Adds what the layer does to the steps; the name of the value it makes."""
        if type(layer) is keras.layers.InputLayer:
            return IMAGES
        if type(layer) not in _READERS:
            raise to_refusal(layer, "has no exact rewriting")
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise to_refusal(layer, "must hold its channels last", layer.data_format)
        if layer.compute_dtype != "float32":
            raise to_refusal(layer, "must compute in float32", layer.compute_dtype)
        if not all(id(tensor) in self.values for tensor in to_inputs(layer)):
            raise to_refusal(layer, "takes its input from a layer that is called more than once")
        sources = tuple(self.values[id(tensor)] for tensor in to_inputs(layer))
        return _READERS[type(layer)](self, layer, sources)

    def read_convolution(self, layer: Any, sources: tuple[str, ...]) -> str:
        """A convolution, pointwise ones with the average pooling before them."""
        if layer.groups != 1 or tuple(layer.dilation_rate) != (1, 1):
            raise to_refusal(layer, "must be neither grouped nor dilated")
        if layer.activation not in (keras.activations.linear, keras.activations.relu):
            raise to_refusal(layer, "must have no activation but relu", layer.activation.__name__)
        kernel = to_float64(layer.kernel)
        bias = to_float64(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1])
        source, pool = self.moved.get(sources[0], (sources[0], None))
        relu = layer.activation is keras.activations.relu
        window = to_window(layer)
        extent = layer.output.shape[1:3]
        return self.add(Convolution(layer.name, source, window, kernel, bias, extent, pool, relu))

    def read_normalization(self, layer: Any, sources: tuple[str, ...]) -> str:
        """BatchNorm, folded into the convolution before it."""
        step = self.to_own_convolution(layer, sources[0])
        if layer.axis not in (-1, 3):
            raise to_refusal(layer, "must normalise the channels", layer.axis)
        if layer.trainable:
            raise to_refusal(layer, "is trainable; set backbone.trainable = False first")
        scale = 1 / np.sqrt(to_float64(layer.moving_variance) + layer.epsilon)
        scale = scale * to_float64(layer.gamma) if layer.scale else scale
        bias = (step.bias - to_float64(layer.moving_mean)) * scale
        bias = bias + to_float64(layer.beta) if layer.center else bias
        return self.add(replace(step, kernel=step.kernel * scale, bias=bias))

    def read_activation(self, layer: Any, sources: tuple[str, ...]) -> str:
        """A ReLU, as the end of the convolution before it."""
        if layer.activation is not keras.activations.relu:
            raise to_refusal(layer, "must be relu", layer.activation.__name__)
        return self.add(replace(self.to_own_convolution(layer, sources[0]), relu=True))

    def read_average(self, layer: Any, sources: tuple[str, ...]) -> str:
        """Average pooling, left to the 1x1 convolutions behind it where there are only those."""
        window, tensor = to_window(layer), id(layer.output)
        if window.strides == (1, 1) and self.users[tensor] == self.pointwise_users[tensor]:
            self.moved[layer.name] = sources[0], window
            return layer.name
        return self.add(Plain(layer.name, sources, window.average))

    def read_maximum(self, layer: Any, sources: tuple[str, ...]) -> str:
        """Max pooling."""
        return self.add(Plain(layer.name, sources, to_window(layer).maximum))

    def read_mean(self, layer: Any, sources: tuple[str, ...]) -> str:
        """The mean over all pixels, summed in float32 whatever the precision."""
        if layer.keepdims:
            raise to_refusal(layer, "must drop height and width", "keepdims=True")
        mean = functools.partial(jnp.mean, axis=(1, 2), dtype=jnp.float32)
        return self.add(Plain(layer.name, sources, mean))

    def read_concatenation(self, layer: Any, sources: tuple[str, ...]) -> str:
        """Concatenation over channels."""
        if layer.axis not in (-1, len(layer.output.shape) - 1):
            raise to_refusal(layer, "must join the channels", f"axis={layer.axis}")
        return self.add(Plain(layer.name, sources, lambda *maps: jnp.concatenate(maps, axis=-1)))

    def add(self, step: Step) -> str:
        """Adds a step, or puts it in the place of the one whose value it makes."""
        self.steps[step.name] = step
        return step.name

    def to_own_convolution(self, layer: Any, source: str) -> Convolution:
        """The convolution whose value only this layer takes."""
        step = self.steps.get(source)
        alone = self.users[id(layer.input)] == 1
        if not isinstance(step, Convolution) or step.relu or not alone:
            raise to_refusal(layer, "must follow a convolution that feeds nothing else")
        return step


_READERS = {
    keras.layers.Conv2D: _Reader.read_convolution,
    keras.layers.BatchNormalization: _Reader.read_normalization,
    keras.layers.Activation: _Reader.read_activation,
    keras.layers.AveragePooling2D: _Reader.read_average,
    keras.layers.MaxPooling2D: _Reader.read_maximum,
    keras.layers.GlobalAveragePooling2D: _Reader.read_mean,
    keras.layers.Concatenate: _Reader.read_concatenation,
}


def to_inputs(layer: Any) -> list[Any]:
    """The tensors that a layer takes; none for the input itself."""
    return [] if type(layer) is keras.layers.InputLayer else jax.tree.leaves(layer.input)


def to_window(layer: Any) -> Window:
    """The window of a convolution or a pooling layer."""
    height, width = layer.kernel_size if isinstance(layer, keras.layers.Conv2D) else layer.pool_size
    down, right = layer.strides
    return Window((height, width), (down, right), layer.padding.upper())


def to_float64(variable: Any) -> np.ndarray:
    """A Keras variable's value: folding rounds once, at the end."""
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def to_refusal(layer: Any, rule: str, received: object = None) -> ModelError:
    """The error that names the layer and the rule it breaks."""
    kind = type(layer).__name__
    end = "" if received is None else f". Received: {received}"
    return ModelError(f"Cannot freeze the backbone: {kind} '{layer.name}' {rule}{end}")
