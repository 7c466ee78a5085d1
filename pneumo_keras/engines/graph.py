"""The frozen backbone as a graph of a few kinds of steps, read once from Keras.

Every program that computes the same features is written from it. BatchNorm and ReLU belong to the
convolution before them; what cannot be read so, exact except for rounding, is refused here. Reading looks at
the structure alone: the weights are folded when a program is written.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64

from pneumo_keras.errors import ModelError
from pneumo_keras.model.layers import list_operations, to_float64

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
class Step:
    """One operation: the name of the value that it makes, and those of the values that it takes."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Convolution(Step):
    """A convolution, the BatchNorm behind it (mostly one), a ReLU or none."""

    window: Window
    layer: keras.layers.Conv2D
    normalizations: tuple[keras.layers.BatchNormalization, ...] = ()
    relu: bool = False

    def fold(
        self,
    ) -> tuple[Float64[np.ndarray, "height width channels filters"], Float64[np.ndarray, " filters"]]:
        """Kernel and bias with the BatchNorm folded in, so that they are rounded once, at the end.

        Raises:
            ModelError: They are not finite. Some engines would turn NaN into 0 in a ReLU, and continue.
        """
        kernel = to_float64(self.layer.kernel)
        bias = to_float64(self.layer.bias) if self.layer.use_bias else np.zeros(kernel.shape[-1])
        for norm in self.normalizations:
            with np.errstate(invalid="ignore"):
                scale = 1 / np.sqrt(to_float64(norm.moving_variance) + norm.epsilon)
            scale = scale * to_float64(norm.gamma) if norm.scale else scale
            bias = (bias - to_float64(norm.moving_mean)) * scale
            bias = bias + to_float64(norm.beta) if norm.center else bias
            kernel = kernel * scale
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise ModelError(f"The weights of '{self.name}' must be finite, and its variances at least 0")
        return kernel, bias


@dataclass(frozen=True)
class MaxPooling(Step):
    """The largest value in each window; padding is never the largest."""

    window: Window


@dataclass(frozen=True)
class AveragePooling(Step):
    """The mean over the pixels in each window; padding does not count."""

    window: Window


@dataclass(frozen=True)
class PixelMean(Step):
    """The mean over all pixels: maps (n, height, width, d) -> features (n, d)."""


@dataclass(frozen=True)
class Concatenation(Step):
    """Maps joined along their channels, or features along theirs."""


@dataclass(frozen=True)
class Flattening(Step):
    """All values of an image in a row, channels running fastest: (n, height, width, c) -> (n, d)."""


@dataclass(frozen=True)
class Graph:
    """A backbone from images (n, height, width, channels) to features (n, d).

    Attributes:
        steps: In an order in which they can run. The images are the value `IMAGES`.
        output: Name of the value with the features.
        image_shape: Height, width and channels of an image.
        d: Number of features.
    """

    steps: tuple[Step, ...]
    output: str
    image_shape: tuple[int | None, ...]
    d: int


def read_graph(backbone: keras.Model) -> Graph:
    """Reads a frozen functional graph of convolutions, BatchNorm, ReLU, pooling and concatenation.

    Raises:
        ModelError: It has something without an exact rewriting.
    """
    layers = list_operations(backbone)
    (images,), (output,) = backbone.inputs, backbone.outputs
    users = Counter(id(tensor) for layer in layers for tensor in keras.tree.flatten(layer.input))
    users[id(output)] += 1
    steps: dict[str, Step] = {}
    values: dict[int, str] = {id(images): IMAGES}
    for layer in layers:
        inputs = keras.tree.flatten(layer.input)
        # Keras' `output` is that of a layer's first use: the output of a second one is not found.
        sources = tuple(values.get(id(tensor), "") for tensor in inputs)
        alone = len(inputs) == 1 and users[id(inputs[0])] == 1
        step = _read_layer(layer, sources, steps.get(sources[0]) if alone else None)
        if step is None or "" in sources or layer.compute_dtype != "float32":
            raise ModelError(
                f"The backbone's layer {type(layer).__name__} '{layer.name}' has no exact rewriting; "
                "compute.engine=keras runs it"
            )
        steps[step.name] = step
        values[id(layer.output)] = step.name
    return Graph(tuple(steps.values()), values[id(output)], backbone.input_shape[1:], output.shape[-1])


def _read_layer(layer: Any, sources: tuple[str, ...], before: Step | None) -> Step | None:
    """A layer as a step, or as a part of the convolution before it, which feeds nothing else; or None."""
    kinds, activations = keras.layers, keras.activations
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    convolution = before if isinstance(before, Convolution) and not before.relu else None
    match layer:
        case kinds.Conv2D(groups=1, dilation_rate=(1, 1), activation=activations.linear | activations.relu):
            relu = layer.activation is activations.relu
            return Convolution(layer.name, sources, _to_window(layer, layer.kernel_size), layer, relu=relu)
        case kinds.BatchNormalization(axis=-1 | 3, trainable=False) if convolution:
            return replace(convolution, normalizations=(*convolution.normalizations, layer))
        case kinds.Activation(activation=activations.relu) if convolution:
            return replace(convolution, relu=True)
        case kinds.MaxPooling2D():
            return MaxPooling(layer.name, sources, _to_window(layer, layer.pool_size))
        case kinds.AveragePooling2D():
            return AveragePooling(layer.name, sources, _to_window(layer, layer.pool_size))
        case kinds.GlobalAveragePooling2D(keepdims=False):
            return PixelMean(layer.name, sources)
        case kinds.Flatten() if len(layer.input.shape) == 4:
            return Flattening(layer.name, sources)
        case kinds.Concatenate() if layer.axis in (-1, len(layer.output.shape) - 1):
            return Concatenation(layer.name, sources)
    return None


def _to_window(layer: Any, size: tuple[int, int]) -> Window:
    return Window(size, layer.strides, layer.padding.upper())
