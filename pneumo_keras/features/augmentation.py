"""Random rotation, mirroring, brightness and contrast of training films."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pneumo_keras.seeds import derive_seeds

Vary = Callable[..., Any]


def build_augmentation(
    *,
    rotation_degrees: float,
    horizontal_flip: bool,
    brightness: float,
    contrast: float,
    seed: int,
) -> keras.Sequential:
    """Builds the random variation of grey images (n, size, size, 1), 0..255.

    Keras' own layers. `RandomBrightness` shifts by a share of the range 0..255, where the
    reference protocol multiplies; corners that a rotation uncovers are black in both.

    Args:
        rotation_degrees: Rotated by an angle drawn from plus or minus this.
        horizontal_flip: Mirrored half of the time.
        brightness: Shifted by up to this share of 0..255.
        contrast: Stretched about the image's mean by a factor of 1 plus or minus up to this.
        seed: Of all draws.
    """
    seeds = iter(derive_seeds(seed, count=4))
    layers: list[keras.layers.Layer] = []
    if rotation_degrees:
        rotation = keras.layers.RandomRotation(
            rotation_degrees / 360, fill_mode="constant", fill_value=0.0, seed=next(seeds)
        )
        # Keras keeps rotation out of XLA for TensorFlow's sake; JAX compiles it.
        rotation.supports_jit = keras.config.backend() == "jax"
        layers.append(rotation)
    if horizontal_flip:
        layers.append(keras.layers.RandomFlip("horizontal", seed=next(seeds)))
    if brightness:
        layers.append(keras.layers.RandomBrightness(brightness, value_range=(0, 255), seed=next(seeds)))
    if contrast:
        # A pair, since from one number Keras 3.15 only ever raises the contrast.
        factors = (contrast, contrast)
        layers.append(keras.layers.RandomContrast(factors, value_range=(0, 255), seed=next(seeds)))
    return keras.Sequential(layers or [keras.layers.Identity()], name="augmentation")


def build_variation(augmentation: keras.Sequential) -> Vary:
    """The augmentation as a function of images and a key: the same key, the same draws.

    JAX compiles each layer on its own: all in one, XLA would rotate again wherever a later layer
    reads the images, which takes twice as long.

    Returns:
        Grey images (n, size, size, 1), 0..255, and numbers that start the draws, such as
        (seed, view, chunk) -> varied images of the same shape.
    """
    layers = [(layer, _compile(layer)) for layer in augmentation.layers if hasattr(layer, "generator")]

    def vary(images: Any, *key: int) -> Any:
        seeds = derive_seeds(*key, count=len(layers))
        for (layer, call), seed in zip(layers, seeds, strict=True):
            state = layer.generator.state
            state.assign(np.array([seed, 0], dtype=state.dtype))
            images = call(images)
        return images

    return vary


def _compile(layer: keras.layers.Layer) -> Callable[[Any], Any]:
    call: Any = layer
    if keras.config.backend() != "jax":
        return lambda images: call(images, training=True)
    import jax

    call.build((None, None, None, 1))
    compiled = jax.jit(lambda state, images: call.stateless_call([], state, images, training=True)[0])
    return lambda images: compiled([variable.value for variable in call.non_trainable_variables], images)
