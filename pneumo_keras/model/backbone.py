"""The frozen InceptionV3, from images to pooled features; and cut in two, so that a part can learn."""

import itertools
import math
import os
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from pneumo_keras.data.download import Release, fetch_release
from pneumo_keras.errors import ModelError
from pneumo_keras.model.inference import POOLED, Axis
from pneumo_keras.model.layers import build_glorot, find_infinite, list_operations
from pneumo_keras.runtime.private_apis import override_initializers

# What keras.applications.InceptionV3(weights="imagenet", include_top=False) fetches.
IMAGENET = Release(
    title="InceptionV3's ImageNet weights",
    name="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
    url=(
        "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    md5="bcbd6486424b2319ff4ef7d526e38f63",
    most=87_910_968,
    bytes=87_910_968,
)

FLAT = "_flat"  # ends the name of a layer in which a feature layer ends that is not averaged, or POOLED

CUT = "cut"
"""The feature layer of a lower part that is not pooled."""


def build_backbone(weights: str, *, image_size: int, feature_layers: Sequence[str]) -> keras.Model:
    """Builds the frozen network from images to pooled features.

    Args:
        weights: "imagenet" (fetched on first use), "none" (random, seeded by Python's `random`) or the path
            of a weights file in Keras 3 (`.weights.h5`) or legacy (`.h5`) format.
        image_size: Edge of the images in pixels, at least 75.
        feature_layers: Blocks (`mixed0` ... `mixed10`) whose outputs are averaged over the image and
            concatenated.

    Returns:
        A model from images (n, image_size, image_size, 3) in [-1, 1] to features (n, d), with
        nothing to train and BatchNorm in inference mode.

    Raises:
        DownloadError: The ImageNet weights could not be fetched.
        ModelError: The weights file is missing, damaged or of another architecture.
    """
    network: Any = _build_network(weights, image_size, feature_layers)
    pooled = [
        keras.layers.GlobalAveragePooling2D(name=f"{feature_layer}{POOLED}")(
            network.get_layer(feature_layer).output
        )
        for feature_layer in feature_layers
    ]
    return join_feature_layers(network.input, pooled)


def join_feature_layers(images: keras.KerasTensor, pooled: list[keras.KerasTensor]) -> keras.Model:
    """A frozen backbone from outputs (n, features) of layers `<feature layer>_pooled` or `_flat`."""
    features = pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="feature_layers")(pooled)
    backbone = keras.Model(images, features, name="backbone")
    backbone.trainable = False
    return backbone


def list_ends(backbone: keras.Model) -> dict[str, Any]:
    """The layers in which the feature layers of a backbone end, by feature layer, in their order."""
    ends = [layer for layer in backbone.layers if layer.name.endswith((POOLED, FLAT))]
    order = backbone.get_layer("feature_layers").input if len(ends) > 1 else [ends[0].output]
    by_output = {id(layer.output): layer for layer in ends}
    layers = [by_output[id(output)] for output in order]
    return {layer.name.rpartition("_")[0]: layer for layer in layers}


def count_operations(backbone: keras.Model) -> int:
    """Additions and multiplications of the convolutions for one image; all the rest is small."""
    convolutions: list[Any] = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    return sum(
        2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3]) for layer in convolutions
    )


def select_feature_layers(backbone: keras.Model, feature_layers: Sequence[str]) -> keras.Model:
    """The same network with some of its feature layers, and without the layers that none of them needs."""
    images: Any = backbone.input
    ends = list_ends(backbone)
    return join_feature_layers(images, [ends[feature_layer].output for feature_layer in feature_layers])


def build_map_network(backbone: keras.Model) -> keras.Model:
    """From images to the maps of all feature layers (n, values), channels running fastest."""
    images: Any = backbone.input
    ends = list_ends(backbone)
    flat = [keras.layers.Flatten(name=f"{name}{FLAT}")(layer.input) for name, layer in ends.items()]
    return join_feature_layers(images, flat)


def locate_cells(backbone: keras.Model) -> dict[str, tuple[Axis, Axis]]:
    """Where the cells of each feature layer's maps are, from top to bottom and from left to right."""
    located = {id(backbone.input): (Axis(), Axis())}
    for layer in list_operations(backbone):
        # Branches that are joined again have windows at the same locations.
        source = keras.tree.flatten(layer.input)[0]
        down, across = located[id(source)]
        window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
        if window:  # other layers change only values
            sides = zip((down, across), source.shape[1:3], window, layer.strides, strict=True)
            down, across = (
                axis.slide(size=size, window=width, step=step, padded=layer.padding == "same")
                for axis, size, width, step in sides
            )
        located[id(layer.output)] = down, across
    return {name: located[id(layer.input)] for name, layer in list_ends(backbone).items()}


def _build_network(weights: str, image_size: int, feature_layers: Sequence[str]) -> keras.Model:
    """From images to the highest feature layer; what is above is mostly more than half of InceptionV3."""
    path = fetch_imagenet() if weights == "imagenet" else Path(weights)
    if weights != "none" and not path.is_file():
        raise ModelError(
            'Setting \'model.weights\' must be "imagenet", "none" or a weights file, and there is '
            f"no such file. Received: {path}"
        )
    build: Any = keras.applications.InceptionV3  # its types lack weights=None
    with override_initializers(build_glorot(random.getrandbits(64)) if weights == "none" else None):
        whole = build(include_top=False, weights=None, input_shape=(image_size, image_size, 3))
    names = [layer.name for layer in whole.layers]
    network = keras.Model(whole.input, whole.get_layer(max(feature_layers, key=names.index)).output)
    if weights != "none":  # Keras reads only a part of its own format
        _load_weights(network if path.name.endswith(".weights.h5") else whole, path)
    return network


def _load_weights(network: keras.Model, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            # Layers that the file lacks would keep their values, with only a warning.
            warnings.filterwarnings("error", message="Skipping nested container", category=UserWarning)
            network.load_weights(path)
    except Exception as error:  # Keras, h5py and NumPy each raise their own, by the kind of damage
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            "Setting 'model.weights' must name the weights of an InceptionV3 without top; the "
            f"file has another network or is damaged ({reason}). Received: {path}"
        ) from error
    if infinite := find_infinite(network):
        raise ModelError(
            "Setting 'model.weights' must name weights that are finite numbers, and those of "
            f"'{infinite}' are not: the file is damaged. Received: {path}"
        )


def fetch_imagenet() -> Path:
    """Keras' own ImageNet weights in Keras' own cache, fetched and checked on first use."""
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    remedy = (
        f"Put the file at {folder / IMAGENET.name}, or name a copy with --set model.weights=FILE; "
        "--config demo needs no download."
    )
    return fetch_release(IMAGENET, folder, remedy=remedy)


@dataclass(frozen=True)
class CutBackbone:
    """A copy of a backbone in two parts that share its layers.

    Attributes:
        whole: Images (n, size, size, 3) -> features (n, d), like the backbone before the cut.
        lower: Images -> activations (n, a): what crosses the cut, flat, then the pooled feature layers below.
        upper: Activations -> features. Its convolutions learn, its BatchNorm does not: that alone leaves it
            in inference mode, since `fit` calls all layers with `training=True`.
    """

    whole: keras.Model
    lower: keras.Model
    upper: keras.Model


def cut_backbone(backbone: keras.Model, block: str) -> CutBackbone:
    """Cuts a copy of a frozen backbone right below the block that ends in this layer: `mixed8`."""
    whole: Any = _copy_model(backbone)
    trunks = _find_trunks(whole)
    below: Any = trunks[id(whole.get_layer(block).output)][-2].output
    ends = [layer.output for layer in list_ends(whole).values()]
    untouched = [end for end in ends if all(layer.output is not below for layer in trunks[id(end)])]
    flat = keras.layers.Flatten(name=f"{CUT}{FLAT}")(below)
    lower = join_feature_layers(whole.input, [flat, *untouched])
    above = keras.Model([below, *untouched], whole.output, name="above")
    for layer in above.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    return CutBackbone(whole, lower, _flatten_inputs(above))


def _copy_model(model: keras.Model) -> keras.Model:
    """The same network with weights of its own."""
    with override_initializers():
        copy: Any = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.trainable = model.trainable
    return copy


def _find_trunks(model: Any) -> dict[int, Sequence[Any]]:
    """For the id of each tensor the layers that all ways from the images to it pass, the nearest one last."""
    trunks: dict[int, Sequence[Any]] = {id(model.input): []}
    for layer in list_operations(model):
        ways = [trunks[id(source)] for source in keras.tree.flatten(layer.input)]
        steps = itertools.takewhile(lambda step: len(set(map(id, step))) == 1, zip(*ways, strict=False))
        trunks[id(layer.output)] = [*(step[0] for step in steps), layer]
    return trunks


def _flatten_inputs(above: Any) -> keras.Model:
    """The upper part on activations, all those of an image in one row."""
    shapes = [one.shape[1:] for one in above.inputs]
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    activations: Any = keras.Input((ends[-1],), name="activations")
    parts = [activations[:, start:end] for start, end in itertools.pairwise([0, *ends])]
    parts[0] = keras.layers.Reshape(shapes[0])(parts[0])
    return keras.Model(activations, above(parts), name="upper")
