"""Steps of a graph as ONNX, which OpenVINO reads and exports consist of: channels first inside.

Keras' own export needs TensorFlow or jax2onnx, and keeps the channels last. Needs the package onnx.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
)

FEATURES = "features"
# Old enough for runtimes of 2023, the first with which the mean takes its axes as an input.
OPSET, IR_VERSION = 18, 8

CHANNELS_FIRST, CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)

Shape = Sequence[int | str | None]
"""Shape of an input or output: a name for an axis of any length, None for one without a name."""


@dataclass(frozen=True)
class Nodes:
    """The nodes and constants of an ONNX model while it is written."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Adds one of ONNX' operators and returns the name of its output, a new one unless it is given."""
        output = name or f"{kind}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def add_constant(self, value: np.ndarray | list[int] | float) -> str:
        """Adds a constant, fractions rounded to float32, and returns its name."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = f"constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def to_model(self, name: str, taken: tuple[str, Shape], made: tuple[str, Shape]) -> bytes:
        """The whole model as a file, with its float32 input and output by name and shape."""
        inputs, outputs = (
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, list(shape))]
            for value, shape in (taken, made)
        )
        model = helper.make_model(
            helper.make_graph(self.nodes, name, inputs, outputs, self.constants),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pneumo-keras",
        )
        return model.SerializeToString()


def write_onnx(graph: Graph) -> bytes:
    """A backbone as an ONNX model from `images` (n, size, size, 3) to `features` (n, d), for any n."""
    nodes = Nodes()
    images = nodes.add("Transpose", IMAGES, perm=CHANNELS_FIRST)
    nodes.add("Identity", write_steps(nodes, graph, images), name=FEATURES)
    return nodes.to_model("backbone", (IMAGES, ["n", *graph.image_shape]), (FEATURES, ["n", graph.d]))


def write_steps(nodes: Nodes, graph: Graph, images: str) -> str:
    """Writes all steps of a graph; from the name of the images (n, 3, size, size) to that of the features."""
    values = {IMAGES: images}
    for step in graph.steps:
        values[step.name] = _write_step(nodes, step, [values[source] for source in step.sources])
    return values[graph.output]


def _write_step(nodes: Nodes, step: Step, sources: Sequence[str]) -> str:
    match step:
        case Convolution(window=window):
            kernel, bias = step.fold()
            constants = nodes.add_constant(kernel.transpose(3, 2, 0, 1)), nodes.add_constant(bias)
            sums = nodes.add("Conv", *sources, *constants, **_to_attributes(window))
            return nodes.add("Relu", sums) if step.relu else sums
        case MaxPooling(window=window):
            return nodes.add("MaxPool", *sources, **_to_attributes(window))
        case AveragePooling(window=window):
            return nodes.add("AveragePool", *sources, **_to_attributes(window))
        case PixelMean():
            return nodes.add("ReduceMean", *sources, nodes.add_constant([2, 3]), name=step.name, keepdims=0)
        case Flattening():
            return nodes.add("Flatten", nodes.add("Transpose", *sources, perm=CHANNELS_LAST))
        case Concatenation():
            return nodes.add("Concat", *sources, axis=1)
    raise NotImplementedError(step)


def _to_attributes(window: Window) -> dict[str, Any]:
    padding = {"SAME": "SAME_UPPER", "VALID": "VALID"}[window.padding]
    return {"kernel_shape": list(window.size), "strides": list(window.strides), "auto_pad": padding}
