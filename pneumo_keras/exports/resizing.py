"""Antialiased bilinear resizing as two matrix products: the same in every runtime, where their own is not.

ONNX' operator Resize with antialiasing came out 1.6e-3 off in OpenVINO. A matrix holds, for each pixel to
be made along one axis, the weights of all pixels that there are.
"""

import numpy as np
from jaxtyping import Float64

Weights = Float64[np.ndarray, "target source"]


def to_centres(target: int) -> Float64[np.ndarray, "target 1"]:
    """The middles of the pixels to be made, in their own pixels."""
    return np.arange(target)[:, None] + 0.5


def to_weights(source: int, target: int) -> Weights:
    """The weights with which a size becomes another one, as Keras on JAX and Pillow have them.

    Each row adds up to one.

    Args:
        source: Pixels that there are.
        target: Pixels to be made.
    """
    ratio = source / target
    gaps = np.abs(to_centres(target) * ratio - 0.5 - np.arange(source))
    weights = (1 - gaps / max(ratio, 1.0)).clip(0)  # averages what shrinks, and does not sample it
    return weights / weights.sum(axis=1, keepdims=True)
