"""Convolution and pooling on JAX, channels last."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from pneumo_keras.engines.graph import Window

Maps = Float[Array, "n _height _width _channels"]


def convolve(maps: Maps, kernel: Array, strides: tuple[int, int], padding: Any) -> Maps:
    """A convolution with a kernel (height, width, channels, filters); padding as JAX takes it."""
    order = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(maps, kernel, strides, padding, dimension_numbers=order)


def average(window: Window, maps: Maps) -> Maps:
    """Mean over the pixels in each window; padding is no pixel."""
    ones = jnp.ones((1, *maps.shape[1:3], 1), maps.dtype)
    return slide(window, jnp.add, maps, 0.0) / slide(window, jnp.add, ones, 0.0)


def maximum(window: Window, maps: Maps) -> Maps:
    """Largest value in each window."""
    return slide(window, jnp.maximum, maps, -jnp.inf)


def slide(window: Window, combine: Callable[..., Array], maps: Maps, fill: float) -> Maps:
    """Combines shifted copies of the padded maps, first along height, then along width."""
    pads = lax.padtype_to_pads(maps.shape[1:3], window.size, window.strides, window.padding)
    maps = jnp.pad(maps, ((0, 0), *pads, (0, 0)), constant_values=fill)
    for axis, size, stride in zip((1, 2), window.size, window.strides, strict=True):
        last = maps.shape[axis] - size + 1
        shifted = [lax.slice_in_dim(maps, i, i + last, stride, axis) for i in range(size)]
        maps = functools.reduce(combine, shifted)
    return maps
