"""The frozen network on OpenVINO: the same features as Keras, several times faster on a CPU.

The Keras graph is written out as an OpenVINO graph, in memory and in a fraction of a second. Keras'
own exports need TensorFlow, jax2onnx or a second process with another backend, and the graph they
give keeps channels last, which OpenVINO computes more slowly.
"""

import contextlib
import importlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import Features, ImageBatch
from pneumo_keras.backend import import_openvino
from pneumo_keras.errors import BackendError, ModelError

SPARE_REQUESTS = 8  # beyond those computing: work in hand while the caller prepares more
HEIGHT_WIDTH = np.array([2, 3])  # the axes, channels first


@dataclass(frozen=True)
class OpenVinoNetwork:
    """A compiled network.

    Every image is a request of its own: no slower than batches, and its features do not depend on
    the images it came with.

    Attributes:
        compiled: Image (1, size, size, 3) -> features (1, d).
    """

    compiled: Any

    def __call__(self, images: ImageBatch) -> Features:
        """Features (n, d) of images (n, size, size, 3) in [-1, 1]."""
        return next(self.stream([images]))

    def stream(self, batches: Iterable[ImageBatch]) -> Iterator[Features]:
        """Features of each batch, in order, computed while the caller prepares the next batches.

        A few batches are under way at a time, never all. Images are copied when taken, so that
        the caller may reuse its arrays.
        """
        sizes: deque[int] = deque()
        rows: list[np.ndarray] = []
        with contextlib.closing(self._infer(_walk(batches, sizes))) as inferred:
            for row in inferred:
                rows.append(row)
                while sizes and len(rows) >= sizes[0]:
                    size = sizes.popleft()
                    yield self._stack(rows[:size])
                    del rows[:size]
        for _ in sizes:  # what is left at the end are batches without images
            yield self._stack([])

    def _infer(self, images: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        # A plain ring of requests: Python callbacks, which AsyncInferQueue needs, may still be
        # waiting for the interpreter when it shuts down, and then abort the process.
        streams = self.compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        idle = [self.compiled.create_infer_request() for _ in range(streams + SPARE_REQUESTS)]
        busy: deque[Any] = deque()
        try:
            for image in images:
                if idle:
                    busy.append(_start(idle.pop(), image))
                else:
                    features = _wait(busy[0])
                    busy.append(_start(busy.popleft(), image))
                    yield features
            while busy:
                yield _wait(busy.popleft())
        finally:
            for request in busy:
                request.wait()

    def _stack(self, rows: list[np.ndarray]) -> Features:
        d = self.compiled.output(0).shape[1]
        return np.array(rows, np.float32).reshape(len(rows), d)


def build_openvino_network(backbone: keras.Model, *, precision: str = "float32") -> OpenVinoNetwork:
    """Writes the backbone out for OpenVINO and compiles it for throughput on the CPU.

    Args:
        backbone: Flat functional model from images (n, size, size, 3) to features (n, d); its
            BatchNorm in inference mode.
        precision: Of the arithmetic: "float32", or "bfloat16" on a CPU that has it, and faster only
            on some.

    Raises:
        BackendError: A package is missing, or the CPU lacks the precision.
        ModelError: The backbone has a layer that cannot be written out.
    """
    openvino = import_openvino()
    core = openvino.Core()
    _check_precision(core, precision)
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    return OpenVinoNetwork(core.compile_model(to_openvino_graph(backbone), "CPU", settings))


def to_openvino_graph(backbone: keras.Model) -> Any:
    """The same network as an `openvino.Model` for one image (1, size, size, 3), channels first.

    Raises:
        BackendError: OpenVINO is not installed.
        ModelError: A layer, or an option of it, has no counterpart here, or is used twice.
    """
    openvino = import_openvino()
    ops = importlib.import_module("openvino.opset13")

    shape = [1, *(-1 if edge is None else edge for edge in backbone.input_shape[1:])]
    images = ops.parameter(shape, np.float32, name="images")
    nodes = {id(backbone.inputs[0]): ops.transpose(images, np.array([0, 3, 1, 2]))}
    for layer in backbone.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            nodes[id(layer.output)] = _to_node(ops, layer, nodes)
    features = ops.result(_get_node(nodes, backbone.outputs[0], backbone.layers[-1]))
    return openvino.Model([features], [images], backbone.name)


def _check_precision(core: Any, precision: str) -> None:
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError(
            "The engine 'openvino' finds no bfloat16 arithmetic in this CPU. Choose the precision "
            "float32. Received: bfloat16"
        )


def _walk(batches: Iterable[ImageBatch], sizes: deque[int]) -> Iterator[np.ndarray]:
    for images in batches:
        sizes.append(len(images))
        yield from images


def _start(request: Any, image: np.ndarray) -> Any:
    request.start_async({0: image[None]})
    return request


def _wait(request: Any) -> np.ndarray:
    request.wait()
    return request.get_output_tensor().data[0].copy()


def _refuse(layer: keras.layers.Layer, reason: str) -> ModelError:
    return ModelError(
        f"The engine 'openvino' cannot run layer '{layer.name}' ({type(layer).__name__}), {reason}."
        " Choose the engine 'keras'."
    )


def _to_node(ops: ModuleType, layer: keras.layers.Layer, nodes: dict[int, Any]) -> Any:
    write = WRITERS.get(type(layer))
    if write is None:
        raise _refuse(layer, "a kind it does not know")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise _refuse(layer, "which has its channels first")
    if isinstance(layer.input, list):
        return write(ops, layer, [_get_node(nodes, source, layer) for source in layer.input])
    return write(ops, layer, _get_node(nodes, layer.input, layer))


def _get_node(nodes: dict[int, Any], tensor: keras.KerasTensor, layer: keras.layers.Layer) -> Any:
    # Keras' `output` is that of a layer's first use: the output of a second use is not found.
    if id(tensor) not in nodes:
        raise _refuse(layer, "which comes after a layer that is used more than once")
    return nodes[id(tensor)]


def _write_convolution(ops: ModuleType, layer: keras.layers.Conv2D, x: Any) -> Any:
    if layer.groups != 1 or layer.padding not in ("same", "valid"):
        raise _refuse(layer, "which has groups or an uncommon padding")
    kernel = np.ascontiguousarray(_to_array(layer.kernel).transpose(3, 2, 0, 1))
    window = (list(layer.strides), [0, 0], [0, 0], list(layer.dilation_rate))
    x = ops.convolution(x, ops.constant(kernel), *window, _to_padding(layer))
    if layer.use_bias:
        x = ops.add(x, _to_channels(ops, _to_array(layer.bias)))
    return _write_activation(ops, layer, x)


def _write_normalisation(ops: ModuleType, layer: keras.layers.BatchNormalization, x: Any) -> Any:
    if layer.axis not in (-1, 3):
        raise _refuse(layer, "which normalises along another axis than the channels")
    scale = 1 / np.sqrt(_to_array(layer.moving_variance).astype(np.float64) + layer.epsilon)
    scale = scale * _to_array(layer.gamma) if layer.scale else scale
    offset = -_to_array(layer.moving_mean) * scale
    offset = offset + _to_array(layer.beta) if layer.center else offset
    return ops.add(ops.multiply(x, _to_channels(ops, scale)), _to_channels(ops, offset))


def _write_max_pooling(ops: ModuleType, layer: keras.layers.MaxPooling2D, x: Any) -> Any:
    strides, window = list(layer.strides), list(layer.pool_size)
    padding = _to_padding(layer)
    return ops.max_pool(x, strides, [1, 1], [0, 0], [0, 0], window, "floor", padding).output(0)


def _write_average_pooling(ops: ModuleType, layer: keras.layers.AveragePooling2D, x: Any) -> Any:
    strides, window, without_padding = list(layer.strides), list(layer.pool_size), True
    padding = _to_padding(layer)
    return ops.avg_pool(x, strides, [0, 0], [0, 0], window, without_padding, "floor", padding)


def _write_global_pooling(ops: ModuleType, layer: keras.layers.GlobalAveragePooling2D, x: Any) -> Any:
    return ops.reduce_mean(x, ops.constant(HEIGHT_WIDTH), layer.keepdims)


def _write_activation(ops: ModuleType, layer: Any, x: Any) -> Any:
    if layer.activation is keras.activations.linear:
        return x
    if layer.activation is keras.activations.relu:
        return ops.relu(x)
    raise _refuse(layer, "whose activation is not ReLU")


def _write_concatenation(ops: ModuleType, layer: keras.layers.Concatenate, xs: list[Any]) -> Any:
    if layer.axis not in (-1, len(layer.input[0].shape) - 1):
        raise _refuse(layer, "which joins along another axis than the channels")
    return ops.concat(xs, 1)


WRITERS: dict[type, Callable[[ModuleType, Any, Any], Any]] = {
    keras.layers.Conv2D: _write_convolution,
    keras.layers.BatchNormalization: _write_normalisation,
    keras.layers.MaxPooling2D: _write_max_pooling,
    keras.layers.AveragePooling2D: _write_average_pooling,
    keras.layers.GlobalAveragePooling2D: _write_global_pooling,
    keras.layers.Activation: _write_activation,
    keras.layers.Concatenate: _write_concatenation,
}


def _to_array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable.value))


def _to_channels(ops: ModuleType, values: np.ndarray) -> Any:
    return ops.constant(values.astype(np.float32).reshape(1, -1, 1, 1))


def _to_padding(layer: Any) -> str:
    return "same_upper" if layer.padding == "same" else "valid"
