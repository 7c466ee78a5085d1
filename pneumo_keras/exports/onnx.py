"""The whole classifier as ONNX, from the graph that the engines read. Needs onnx, and onnxruntime to run.

Images are resized by two matrix products, the same in every runtime: OpenVINO 2026.4 ignores `antialias` of
ONNX' own operator Resize, and what shrinks is sampled instead of averaged.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from onnx import TensorProto
from scipy.linalg import block_diag

from pneumo_keras.engines.graph import read_graph
from pneumo_keras.engines.onnx import CHANNELS_FIRST, Nodes, write_steps
from pneumo_keras.exports.forms import IMAGE_SHAPE, IMAGES, PROBABILITY, PROBABILITY_SHAPE
from pneumo_keras.exports.verification import Scoring
from pneumo_keras.model.classifier import Classifier, FrozenPart
from pneumo_keras.model.head import read_members
from pneumo_keras.model.inference import GREY_OFFSET, GREY_SCALE

HEIGHT, WIDTH = 2, 3  # axes of maps (n, channels, height, width)


def write_classifier(classifier: Classifier, path: Path) -> None:
    """Writes the file."""
    path.write_bytes(to_onnx(classifier))


def load_scoring(path: Path) -> Scoring:
    """The file on ONNX Runtime."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([PROBABILITY], {IMAGES: images})[0]


def to_onnx(classifier: Classifier) -> bytes:
    """A model from `images`, any number of any size, to `probability`."""
    nodes = Nodes()
    images = _write_preprocessing(nodes, classifier.frozen)
    if classifier.flip_average:
        first_last_axis_step = [[-1], [np.iinfo(np.int64).min], [WIDTH], [-1]]
        mirrored = nodes.add("Slice", images, *map(nodes.add_constant, first_last_axis_step))
        images = nodes.add("Concat", images, mirrored, axis=0)
    features = write_steps(nodes, read_graph(classifier.frozen.backbone), images)
    log_odds = _write_head(nodes, classifier.head, features)
    if classifier.flip_average:
        pairs = nodes.add("Reshape", log_odds, nodes.add_constant([2, -1, classifier.head.output_shape[-1]]))
        log_odds = nodes.add("ReduceMean", pairs, nodes.add_constant([0]), keepdims=0)
    mean = nodes.add("ReduceMean", log_odds, nodes.add_constant([1]), keepdims=1)
    calibration: Any = classifier.decision.get_layer("calibration")
    calibrated = _write_scaling(nodes, mean, float(calibration.scale), float(calibration.offset))
    nodes.add("Sigmoid", calibrated, name=PROBABILITY)
    return nodes.to_model("classifier", (IMAGES, IMAGE_SHAPE), (PROBABILITY, PROBABILITY_SHAPE))


def _write_preprocessing(nodes: Nodes, frozen: FrozenPart) -> str:
    """From images (n, height, width, 1) to images (n, channels, size, size)."""
    images = nodes.add("Transpose", IMAGES, perm=CHANNELS_FIRST)
    for target in frozen.sizes:
        rows, columns = (_write_weights(nodes, images, axis, target) for axis in (HEIGHT, WIDTH))
        columns = nodes.add("Transpose", columns, perm=[1, 0])
        images = nodes.add("MatMul", nodes.add("MatMul", rows, images), columns)
    grey = _write_scaling(nodes, images, GREY_SCALE, GREY_OFFSET)
    channels: Any = frozen.backbone.input_shape[-1]
    return nodes.add("Concat", *[grey] * channels, axis=1)


def _write_weights(nodes: Nodes, images: str, axis: int, target: int) -> str:
    """Weights (target, source) of bilinear, antialiased resizing along an axis, as of Keras and Pillow."""
    pixels = nodes.add("Gather", nodes.add("Shape", images), nodes.add_constant(np.array(axis)), axis=0)
    steps = nodes.add("Range", nodes.add_constant(np.array(0)), pixels, nodes.add_constant(np.array(1)))
    source, size = (nodes.add("Cast", value, to=TensorProto.FLOAT) for value in (steps, pixels))
    ratio = nodes.add("Div", size, nodes.add_constant(float(target)))
    scaled = nodes.add("Mul", nodes.add_constant(np.arange(target)[:, None] + 0.5), ratio)
    centres = nodes.add("Sub", scaled, nodes.add_constant(0.5))
    gaps = nodes.add("Abs", nodes.add("Sub", centres, source))
    # What shrinks is averaged, and not sampled.
    distances = nodes.add("Div", gaps, nodes.add("Max", ratio, nodes.add_constant(1.0)))
    weights = nodes.add("Relu", nodes.add("Sub", nodes.add_constant(1.0), distances))
    return nodes.add("Div", weights, nodes.add("ReduceSum", weights, nodes.add_constant([1]), keepdims=1))


def _write_head(nodes: Nodes, head: keras.Model, features: str) -> str:
    """From features (n, d) to log odds (n, members), all members in one matrix."""
    members = read_members(head)
    value = nodes.add("Sub", features, nodes.add_constant(members.shift))
    for index, layer in enumerate(members.layers):
        # The first layer of each member has the same inputs, a second one those of its member alone.
        kernel = block_diag(*layer.kernels) if index else np.concatenate(list(layer.kernels), axis=1)
        constants = nodes.add_constant(np.asarray(kernel)), nodes.add_constant(layer.biases.reshape(-1))
        value = nodes.add("Gemm", value, *constants)
        value = nodes.add("Relu", value) if layer.relu else value
    return value


def _write_scaling(nodes: Nodes, value: str, scale: float, offset: float) -> str:
    scaled = nodes.add("Mul", value, nodes.add_constant(scale))
    return nodes.add("Add", scaled, nodes.add_constant(offset))
