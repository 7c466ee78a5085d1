"""The frozen InceptionV3: images in, pooled features out."""

import contextlib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from pneumo_keras.errors import DownloadError, ModelError

log = logging.getLogger("pneumo_keras")

# What keras.applications.InceptionV3(weights="imagenet", include_top=False) fetches.
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
    "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
IMAGENET_BYTES = 87_910_968
IMAGENET_MD5 = "bcbd6486424b2319ff4ef7d526e38f63"

POOLED = "_pooled"


def build_backbone(weights: str, *, image_size: int, taps: Sequence[str]) -> keras.Model:
    """Builds the frozen network from images to pooled features.

    Args:
        weights: "imagenet" (fetched on first use), "none" (random, seeded by Python's `random`) or the path
            of a weights file in Keras 3 (`.weights.h5`) or legacy (`.h5`) format.
        image_size: Edge of the images in pixels, at least 75.
        taps: Blocks (`mixed0` ... `mixed10`) whose outputs are averaged over the image and
            concatenated.

    Returns:
        A model from images (n, image_size, image_size, 3) in [-1, 1] to features (n, d), with
        nothing to train and BatchNorm in inference mode.

    Raises:
        DownloadError: The ImageNet weights could not be fetched.
        ModelError: The weights file is missing, damaged or of another architecture.
    """
    network: Any = _build_network(weights, image_size)
    pooled = [
        keras.layers.GlobalAveragePooling2D(name=f"{tap}{POOLED}")(network.get_layer(tap).output)
        for tap in taps
    ]
    return build_frozen(network.input, pooled)


def build_frozen(images: keras.KerasTensor, pooled: list[keras.KerasTensor]) -> keras.Model:
    """Pooled blocks side by side, with nothing to train: a backbone from any network.

    Args:
        images: The network's input.
        pooled: Outputs (n, features) of layers named `<tap>_pooled`.
    """
    features = pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="taps")(pooled)
    backbone = keras.Model(images, features, name="backbone")
    backbone.trainable = False
    return backbone


def list_taps(backbone: keras.Model) -> dict[str, int]:
    """The taps of a backbone with their numbers of features, in their order."""
    pooled = [layer for layer in backbone.layers if layer.name.endswith(POOLED)]
    order = backbone.get_layer("taps").input if len(pooled) > 1 else [pooled[0].output]
    widths = {id(layer.output): layer for layer in pooled}
    layers = [widths[id(output)] for output in order]
    return {layer.name.removesuffix(POOLED): layer.output.shape[-1] for layer in layers}


def select_taps(backbone: keras.Model, taps: Sequence[str]) -> keras.Model:
    """The same network with some of its taps, and without the layers that none of them needs."""
    images: Any = backbone.input
    return build_frozen(images, [backbone.get_layer(f"{tap}{POOLED}").output for tap in taps])


def _build_network(weights: str, image_size: int) -> keras.Model:
    build: Any = functools.partial(
        keras.applications.InceptionV3, include_top=False, input_shape=(image_size, image_size, 3)
    )
    if weights == "none":
        return build(weights=None)
    path = fetch_imagenet() if weights == "imagenet" else Path(weights)
    if not path.is_file():
        raise ModelError(
            'Setting \'model.weights\' must be "imagenet", "none" or a weights file, and there is '
            f"no such file. Received: {path}"
        )
    try:
        with warnings.catch_warnings():
            # Layers that the file lacks would keep their random weights, with nothing but a warning.
            warnings.filterwarnings("error", message="Skipping nested container", category=UserWarning)
            return build(weights=path)
    except (ValueError, KeyError, OSError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            "Setting 'model.weights' must name the weights of an InceptionV3 without top; the "
            f"file holds another network or is damaged ({reason}). Received: {path}"
        ) from error


def fetch_imagenet() -> Path:
    """Keras' own ImageNet weights in Keras' own cache, fetched and checked on first use.

    Raises:
        DownloadError: They could not be fetched whole.
    """
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    target = home / "models" / IMAGENET_URL.rpartition("/")[2]
    source = f"{IMAGENET_URL} ({IMAGENET_BYTES:,} bytes, MD5 {IMAGENET_MD5})"
    if not target.is_file():
        log.info("Fetching InceptionV3's ImageNet weights from %s to %s", source, target)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where Keras shows its progress
            return Path(
                keras.utils.get_file(
                    target.name,
                    IMAGENET_URL,
                    cache_dir=home,
                    cache_subdir="models",
                    file_hash=IMAGENET_MD5,
                )
            )
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise DownloadError(
            f"InceptionV3's ImageNet weights could not be fetched from {source}: {reason}. "
            f"Put the file at {target}, or name a copy with --set model.weights=FILE; "
            "--config demo needs no download."
        ) from error
