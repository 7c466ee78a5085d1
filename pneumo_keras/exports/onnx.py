"""The whole classifier as ONNX, from the graph that the engines read. Needs onnx, and onnxruntime to run."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from pneumo_keras.engines.graph import read_graph
from pneumo_keras.engines.onnx import CHANNELS_FIRST, Nodes, write_steps
from pneumo_keras.exports.head import HeadMatrices, read_head
from pneumo_keras.exports.preprocessing import (
    Preprocessing,
    Resize,
    Scaling,
    read_decision,
    read_preprocessing,
)
from pneumo_keras.exports.resizing import to_centres, to_weights
from pneumo_keras.exports.scoring import (
    IMAGE_SHAPE,
    IMAGES,
    PROBABILITY,
    PROBABILITY_SHAPE,
    ImageSet,
    Probabilities,
    Scoring,
)
from pneumo_keras.model.classifier import Classifier

HEIGHT, WIDTH = 2, 3  # axes of maps (n, channels, height, width)


def write_classifier(classifier: Classifier, path: Path) -> None:
    """Writes the file.

    Raises:
        ModelError: The classifier holds something that has no exact rewriting.
    """
    path.write_bytes(to_onnx(classifier))


def load_scoring(path: Path) -> Scoring:
    """The file on ONNX Runtime."""
    import onnxruntime  # here, for OpenVINO's form is written from this module without it

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return functools.partial(_score, session)


def _score(session: Any, images: ImageSet) -> Probabilities:
    return session.run([PROBABILITY], {IMAGES: images})[0]


def to_onnx(classifier: Classifier) -> bytes:
    """The classifier as a model from `images` to `probability`, any number of any size.

    Raises:
        ModelError: It holds something that has no exact rewriting.
    """
    nodes = Nodes()
    images = write_preprocessing(nodes, read_preprocessing(classifier.frozen))
    if classifier.flip_average:
        images = nodes.add("Concat", images, write_mirror(nodes, images), axis=0)
    features = write_steps(nodes, read_graph(classifier.frozen.backbone), images)
    log_odds = write_head(nodes, read_head(classifier.head), features)
    if classifier.flip_average:
        pairs = nodes.add("Reshape", log_odds, nodes.hold([2, -1, classifier.head.output_shape[-1]]))
        log_odds = nodes.add("ReduceMean", pairs, nodes.hold([0]), keepdims=0)
    mean = nodes.add("ReduceMean", log_odds, nodes.hold([1]), keepdims=1)
    nodes.add("Sigmoid", write_scaling(nodes, read_decision(classifier.decision), mean), name=PROBABILITY)
    return nodes.to_model("classifier", {IMAGES: IMAGE_SHAPE}, {PROBABILITY: PROBABILITY_SHAPE})


def write_preprocessing(nodes: Nodes, preprocessing: Preprocessing) -> str:
    """From images (n, height, width, 1) to images (n, channels, size, size); gives their name."""
    images = nodes.add("Transpose", IMAGES, perm=CHANNELS_FIRST)
    size = None  # of images: any
    for resize in preprocessing.resizes:
        images, size = write_resize(nodes, resize, images, size), resize
    grey = write_scaling(nodes, preprocessing.scaling, images)
    return nodes.add("Concat", *[grey] * preprocessing.channels, axis=1)


def write_resize(nodes: Nodes, resize: Resize, images: str, size: Resize | None) -> str:
    """Two matrix products, along the height and along the width.

    Args:
        nodes: Of the model.
        resize: What to make.
        images: Name of the images (n, 1, height, width).
        size: What made them; None where their size is known only when the model runs.

    Returns:
        The name of the resized images.
    """
    if size is None:
        rows = write_weights(nodes, write_size(nodes, images, HEIGHT), resize.height)
        columns = write_weights(nodes, write_size(nodes, images, WIDTH), resize.width)
        columns = nodes.add("Transpose", columns, perm=[1, 0])
    else:
        rows = nodes.hold(to_weights(size.height, resize.height))
        columns = nodes.hold(to_weights(size.width, resize.width).T)
    return nodes.add("MatMul", nodes.add("MatMul", rows, images), columns)


def write_size(nodes: Nodes, images: str, axis: int) -> str:
    """Pixels along an axis, as an integer without axes."""
    return nodes.add("Gather", nodes.add("Shape", images), nodes.hold(np.array(axis)), axis=0)


def write_weights(nodes: Nodes, source: str, target: int) -> str:
    """The weights of `resizing.to_weights`, computed when the model runs.

    Args:
        nodes: Of the model.
        source: Name of the number of pixels that there are.
        target: Pixels to be made.

    Returns:
        The name of the weights (target, source).
    """
    pixels = nodes.add("Range", nodes.hold(np.array(0)), source, nodes.hold(np.array(1)))
    places, size = (nodes.add("Cast", value, to=TensorProto.FLOAT) for value in (pixels, source))
    ratio = nodes.add("Div", size, nodes.hold(float(target)))
    centres = nodes.add("Sub", nodes.add("Mul", nodes.hold(to_centres(target)), ratio), nodes.hold(0.5))
    gaps = nodes.add("Abs", nodes.add("Sub", centres, places))
    distances = nodes.add("Div", gaps, nodes.add("Max", ratio, nodes.hold(1.0)))
    weights = nodes.add("Relu", nodes.add("Sub", nodes.hold(1.0), distances))
    return nodes.add("Div", weights, nodes.add("ReduceSum", weights, nodes.hold([1]), keepdims=1))


def write_mirror(nodes: Nodes, images: str) -> str:
    """Images from left to right."""
    numbers = [nodes.hold([number]) for number in (-1, np.iinfo(np.int64).min, WIDTH, -1)]
    return nodes.add("Slice", images, *numbers)


def write_head(nodes: Nodes, head: HeadMatrices, features: str) -> str:
    """From features (n, d) to log odds (n, members); gives their name."""
    value = features if head.shift is None else nodes.add("Sub", features, nodes.hold(head.shift))
    for layer in head.layers:
        value = nodes.add("Gemm", value, nodes.hold(layer.kernel), nodes.hold(layer.bias))
        value = nodes.add("Relu", value) if layer.relu else value
    return value


def write_scaling(nodes: Nodes, scaling: Scaling, value: str) -> str:
    """Value * slope + offset; gives its name."""
    scaled = nodes.add("Mul", value, nodes.hold(scaling.slope))
    return nodes.add("Add", scaled, nodes.hold(scaling.offset))
