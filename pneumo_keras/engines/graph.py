"""The frozen backbone as a graph of a few kinds of steps, read once from Keras.

Every program that computes the same features is written from it. BatchNorm and ReLU belong to the
convolution before them; whatever cannot be read so, exact but for rounding, is refused here. Reading
looks at the structure alone: the numbers are folded when a program is written.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64

from pneumo_keras.model.reading import list_layers, to_float64, to_refusal

IMAGES = "images"


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


@dataclass(frozen=True)
class Convolution:
    """A convolution, the BatchNorm behind it, a ReLU.

    Attributes:
        name: The value it makes.
        sources: The value it takes.
        extent: Height and width of its value, None where the graph leaves them open.
        layer: The Keras convolution.
        normalizations: The Keras BatchNorm behind it, mostly one.
        relu: Whether it ends in one.
    """

    name: str
    sources: tuple[str, ...]
    window: Window
    extent: tuple[int | None, int | None]
    layer: keras.layers.Conv2D
    normalizations: tuple[keras.layers.BatchNormalization, ...] = ()
    relu: bool = False

    @property
    def channels(self) -> int:
        """Of its input."""
        return self.layer.kernel.shape[2]

    @property
    def filters(self) -> int:
        """Channels of its output."""
        return self.layer.filters

    def fold(
        self,
    ) -> tuple[Float64[np.ndarray, "height width channels filters"], Float64[np.ndarray, " filters"]]:
        """Kernel and bias with the BatchNorm folded in, so that they are rounded once, at the end.

        Raises:
            ModelError: They are no numbers. Some engines would take NaN for 0 in a ReLU, and go on.
        """
        kernel = to_float64(self.layer.kernel)
        bias = to_float64(self.layer.bias) if self.layer.use_bias else np.zeros(self.filters)
        for norm in self.normalizations:
            with np.errstate(invalid="ignore"):
                scale = 1 / np.sqrt(to_float64(norm.moving_variance) + norm.epsilon)
            scale = scale * to_float64(norm.gamma) if norm.scale else scale
            bias = (bias - to_float64(norm.moving_mean)) * scale
            bias = bias + to_float64(norm.beta) if norm.center else bias
            kernel = kernel * scale
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise to_refusal(self.layer, "must have finite weights and variances of at least 0")
        return kernel, bias


@dataclass(frozen=True)
class MaxPooling:
    """The largest value in each window; padding never wins."""

    name: str
    sources: tuple[str, ...]
    window: Window


@dataclass(frozen=True)
class AveragePooling:
    """The mean over the pixels in each window; padding is no pixel."""

    name: str
    sources: tuple[str, ...]
    window: Window


@dataclass(frozen=True)
class PixelMean:
    """The mean over all pixels: maps (n, height, width, d) -> features (n, d)."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Concatenation:
    """Maps side by side along their channels, or features along theirs."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Flattening:
    """All values of an image in a row, channels running fastest: (n, height, width, c) -> (n, d)."""

    name: str
    sources: tuple[str, ...]


Step = Convolution | MaxPooling | AveragePooling | PixelMean | Flattening | Concatenation


@dataclass(frozen=True)
class Graph:
    """A backbone from images (n, height, width, channels) to features (n, d).

    Attributes:
        steps: In an order in which they can run. The images are the value `IMAGES`.
        output: Name of the value that holds the features.
        image_shape: Height, width and channels of an image, None where the graph leaves them open.
        d: Number of features.
    """

    steps: tuple[Step, ...]
    output: str
    image_shape: tuple[int | None, ...]
    d: int


def read_graph(backbone: keras.Model) -> Graph:
    """Reads a functional graph of convolutions, BatchNorm, ReLU, pooling and concatenation.

    Args:
        backbone: Not trainable, images (n, size, size, 3) -> features (n, d).

    Raises:
        ModelError: It holds something that has no exact rewriting.
    """
    layers = list_layers(backbone)
    output = backbone.outputs[0]
    users = Counter(id(tensor) for layer in layers for tensor in to_inputs(layer))
    users[id(output)] += 1
    steps: dict[str, Step] = {}
    values: dict[int, str] = {id(backbone.inputs[0]): IMAGES}
    for layer in layers:
        check_layer(layer, values)
        inputs = to_inputs(layer)
        sources = tuple(values[id(tensor)] for tensor in inputs)
        alone = len(inputs) == 1 and users[id(inputs[0])] == 1
        step = READERS[type(layer)](layer, sources, to_open_convolution(steps, sources) if alone else None)
        steps[step.name] = step
        values[id(layer.output)] = step.name
    return Graph(tuple(steps.values()), values[id(output)], backbone.input_shape[1:], output.shape[-1])


def check_layer(layer: Any, values: dict[int, str]) -> None:
    """Checks what must be true of a layer of any kind.

    Args:
        layer: A Keras layer or operation.
        values: What was read so far, by the ids of Keras' tensors.

    Raises:
        ModelError: It is not.
    """
    if type(layer) not in READERS:
        raise to_refusal(layer, "has no exact rewriting")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise to_refusal(layer, "must hold its channels last", layer.data_format)
    if layer.compute_dtype != "float32":
        raise to_refusal(layer, "must compute in float32", layer.compute_dtype)
    # Keras' `output` is that of a layer's first call: the output of a second one is not found.
    if not all(id(tensor) in values for tensor in to_inputs(layer)):
        raise to_refusal(layer, "takes its input from a layer that is called more than once")


def to_open_convolution(steps: dict[str, Step], sources: tuple[str, ...]) -> Convolution | None:
    """The convolution that made the source, as long as it has no ReLU yet."""
    step = steps.get(sources[0])
    return step if isinstance(step, Convolution) and not step.relu else None


def read_convolution(layer: Any, sources: tuple[str, ...], before: Convolution | None) -> Convolution:
    """A convolution, neither grouped nor dilated."""
    if layer.groups != 1 or tuple(layer.dilation_rate) != (1, 1):
        raise to_refusal(layer, "must be neither grouped nor dilated")
    if layer.activation not in (keras.activations.linear, keras.activations.relu):
        raise to_refusal(layer, "must have no activation but relu", layer.activation.__name__)
    return Convolution(
        name=layer.name,
        sources=sources,
        window=to_window(layer, layer.kernel_size),
        extent=layer.output.shape[1:3],
        layer=layer,
        relu=layer.activation is keras.activations.relu,
    )


def read_normalization(layer: Any, sources: tuple[str, ...], before: Convolution | None) -> Convolution:
    """BatchNorm, as a part of the convolution before it."""
    if before is None:
        raise to_refusal(layer, "must follow a convolution that feeds nothing else")
    if layer.axis not in (-1, 3):
        raise to_refusal(layer, "must normalise the channels", layer.axis)
    if layer.trainable:
        raise to_refusal(layer, "is trainable; set backbone.trainable = False first")
    return replace(before, normalizations=(*before.normalizations, layer))


def read_activation(layer: Any, sources: tuple[str, ...], before: Convolution | None) -> Convolution:
    """A ReLU, as the end of the convolution before it."""
    if layer.activation is not keras.activations.relu:
        raise to_refusal(layer, "must be relu", layer.activation.__name__)
    if before is None:
        raise to_refusal(layer, "must follow a convolution that feeds nothing else")
    return replace(before, relu=True)


def read_maximum(layer: Any, sources: tuple[str, ...], before: Convolution | None) -> MaxPooling:
    """Max pooling."""
    return MaxPooling(layer.name, sources, to_window(layer, layer.pool_size))


def read_average(layer: Any, sources: tuple[str, ...], before: Convolution | None) -> AveragePooling:
    """Average pooling."""
    return AveragePooling(layer.name, sources, to_window(layer, layer.pool_size))


def read_mean(layer: Any, sources: tuple[str, ...], before: Convolution | None) -> PixelMean:
    """Global average pooling."""
    if layer.keepdims:
        raise to_refusal(layer, "must drop height and width", "keepdims=True")
    return PixelMean(layer.name, sources)


def read_flattening(layer: Any, sources: tuple[str, ...], before: Convolution | None) -> Flattening:
    """All values of an image in a row."""
    if len(layer.input.shape) != 4:
        raise to_refusal(layer, "must take maps", layer.input.shape)
    return Flattening(layer.name, sources)


def read_concatenation(layer: Any, sources: tuple[str, ...], before: Convolution | None) -> Concatenation:
    """Concatenation over channels."""
    if layer.axis not in (-1, len(layer.output.shape) - 1):
        raise to_refusal(layer, "must join the channels", f"axis={layer.axis}")
    return Concatenation(layer.name, sources)


# From a layer, the values it takes and the convolution that feeds it alone, if there is one.
READERS: dict[type, Callable[[Any, tuple[str, ...], Convolution | None], Step]] = {
    keras.layers.Conv2D: read_convolution,
    keras.layers.BatchNormalization: read_normalization,
    keras.layers.Activation: read_activation,
    keras.layers.MaxPooling2D: read_maximum,
    keras.layers.AveragePooling2D: read_average,
    keras.layers.GlobalAveragePooling2D: read_mean,
    keras.layers.Flatten: read_flattening,
    keras.layers.Concatenate: read_concatenation,
}


def to_inputs(layer: Any) -> list[Any]:
    """The tensors that a layer takes."""
    return keras.tree.flatten(layer.input)


def to_window(layer: Any, size: tuple[int, int]) -> Window:
    """The window of a convolution or a pooling layer."""
    return Window(size, layer.strides, layer.padding.upper())
