"""Random rotation, mirroring, brightness and contrast of training films."""

import keras
import numpy as np

from pneumo_keras.seeds import derive_seeds


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


def reseed_augmentation(augmentation: keras.Sequential, *key: int) -> None:
    """Starts the draws of all layers afresh, from a key such as (seed, view, chunk)."""
    generators = [layer.generator for layer in augmentation.layers if hasattr(layer, "generator")]
    seeds = derive_seeds(*key, count=len(generators))
    for generator, seed in zip(generators, seeds, strict=True):
        generator.state.assign(np.array([seed, 0], dtype=generator.state.dtype))
