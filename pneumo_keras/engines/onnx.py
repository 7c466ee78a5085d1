"""Steps of a graph as ONNX, the portable form: channels first inside, as runtimes are fastest.

Keras' own export needs TensorFlow, jax2onnx or a second process with another backend, and keeps the
channels last. Needs the package onnx.
"""

from collections.abc import Mapping, Sequence
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
"""Of an input or output: a name for an axis of any length, None for one without a name."""


@dataclass(frozen=True)
class Nodes:
    """The nodes and constants of an ONNX model while it is written."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output.

        Args:
            kind: ONNX' operator.
            inputs: Names of values and constants.
            name: Of its output; none gives it one that no other has.
            attributes: Of the operator.

        Returns:
            The name of its output.
        """
        output = name or f"{kind}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def hold(self, value: np.ndarray | list[int] | float) -> str:
        """Adds a constant and gives its name; fractions are rounded to float32."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = f"constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def to_model(self, name: str, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> bytes:
        """The whole model as a file; inputs and outputs are float32."""
        model = helper.make_model(
            helper.make_graph(self.nodes, name, to_values(inputs), to_values(outputs), self.constants),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pneumo-keras",
        )
        return model.SerializeToString()


def write_onnx(graph: Graph) -> bytes:
    """Writes a graph as an ONNX model with the same features.

    Args:
        graph: Read from the backbone.

    Returns:
        The file: input `images` float32 (n, size, size, 3) in [-1, 1], output `features` float32 (n, d), for
        any n.
    """
    nodes = Nodes()
    images = nodes.add("Transpose", IMAGES, perm=CHANNELS_FIRST)
    nodes.add("Identity", write_steps(nodes, graph, images), name=FEATURES)
    return nodes.to_model("backbone", {IMAGES: ["n", *graph.image_shape]}, {FEATURES: ["n", graph.d]})


def write_steps(nodes: Nodes, graph: Graph, images: str) -> str:
    """Writes all steps of a graph.

    Args:
        nodes: Of the model.
        graph: Read from the backbone.
        images: Name of the images (n, 3, size, size).

    Returns:
        The name of the features (n, d).
    """
    values = {IMAGES: images}
    for step in graph.steps:
        values[step.name] = write_step(nodes, step, [values[source] for source in step.sources])
    return values[graph.output]


def write_step(nodes: Nodes, step: Step, sources: Sequence[str]) -> str:
    """Writes the nodes of one step and gives the name of its value."""
    match step:
        case Convolution(window=window):
            kernel, bias = step.fold()
            constants = nodes.hold(kernel.transpose(3, 2, 0, 1)), nodes.hold(bias)
            sums = nodes.add("Conv", *sources, *constants, **to_attributes(window))
            return nodes.add("Relu", sums) if step.relu else sums
        case MaxPooling(window=window):
            return nodes.add("MaxPool", *sources, **to_attributes(window))
        case AveragePooling(window=window):
            return nodes.add("AveragePool", *sources, **to_attributes(window))
        case PixelMean():
            return nodes.add("ReduceMean", *sources, nodes.hold([2, 3]), keepdims=0)
        case Flattening():
            return nodes.add("Flatten", nodes.add("Transpose", *sources, perm=CHANNELS_LAST))
        case Concatenation():
            return nodes.add("Concat", *sources, axis=1)


def to_attributes(window: Window) -> dict[str, Any]:
    """The attributes that say how a window slides."""
    padding = {"SAME": "SAME_UPPER", "VALID": "VALID"}[window.padding]
    return {"kernel_shape": list(window.size), "strides": list(window.strides), "auto_pad": padding}


def to_values(shapes: Mapping[str, Shape]) -> list[onnx.ValueInfoProto]:
    """Inputs or outputs by name."""
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in shapes.items()
    ]
