"""The backbone as an ONNX model, the portable form: channels first inside, as runtimes are fastest.

Keras' own export needs TensorFlow, jax2onnx or a second process with another backend, and keeps the
channels last. Needs the package onnx.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pneumo_keras.engines.graph import (
    IMAGES,
    AveragePooling,
    Concatenation,
    Convolution,
    Graph,
    MaxPooling,
    PixelMean,
    Step,
    Window,
)

FEATURES = "features"
# Old enough for runtimes of 2023, the first with which the mean takes its axes as an input.
OPSET, IR_VERSION = 18, 8


def write_onnx(graph: Graph) -> bytes:
    """Writes a graph as an ONNX model with the same features.

    Args:
        graph: Read from the backbone.

    Returns:
        The file: input `images` float32 (n, size, size, 3) in [-1, 1], output `features` float32 (n, d), for
        any n.
    """
    first, last = to_value(IMAGES), to_value(graph.output)
    nodes = [helper.make_node("Transpose", [IMAGES], [first], perm=[0, 3, 1, 2])]
    constants: list[TensorProto] = []
    for step in graph.steps:
        arrays = list(to_arrays(step))
        names = [f"{step.name}/{place}" for place in range(len(arrays))]
        constants += [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
        nodes += to_nodes(step, names)
    nodes.append(helper.make_node("Identity", [last], [FEATURES]))
    images = helper.make_tensor_value_info(IMAGES, TensorProto.FLOAT, ["n", *graph.image_shape])
    features = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["n", graph.d])
    model = helper.make_model(
        helper.make_graph(nodes, "backbone", [images], [features], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="pneumo-keras",
    )
    return model.SerializeToString()


def to_arrays(step: Step) -> Iterator[np.ndarray]:
    """What a step's first node takes beside its sources."""
    match step:
        case Convolution():
            kernel, bias = step.fold()
            yield np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), np.float32)
            yield bias.astype(np.float32)
        case PixelMean():
            yield np.array([2, 3])


def to_nodes(step: Step, constants: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that make a step's value, with the names of its constants."""
    output = to_value(step.name)
    inputs = [*map(to_value, step.sources), *constants]
    match step:
        case Convolution(window=window, relu=False):
            return [helper.make_node("Conv", inputs, [output], **to_attributes(window))]
        case Convolution(window=window):
            sums = f"{output}/sums"
            return [
                helper.make_node("Conv", inputs, [sums], **to_attributes(window)),
                helper.make_node("Relu", [sums], [output]),
            ]
        case MaxPooling(window=window):
            return [helper.make_node("MaxPool", inputs, [output], **to_attributes(window))]
        case AveragePooling(window=window):
            return [helper.make_node("AveragePool", inputs, [output], **to_attributes(window))]
        case PixelMean():
            return [helper.make_node("ReduceMean", inputs, [output], keepdims=0)]
        case Concatenation():
            return [helper.make_node("Concat", inputs, [output], axis=1)]


def to_attributes(window: Window) -> dict[str, Any]:
    """The attributes that say how a window slides."""
    padding = {"SAME": "SAME_UPPER", "VALID": "VALID"}[window.padding]
    return {"kernel_shape": list(window.size), "strides": list(window.strides), "auto_pad": padding}


def to_value(name: str) -> str:
    """The name in the model of a value of the graph, apart from those of its input and output."""
    return f"{name}/value"
