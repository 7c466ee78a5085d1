"""Antialiased resizing as two matrix products: the same in every runtime, where their own resizing is not.

ONNX' operator Resize with antialiasing came out 1.6e-3 off in OpenVINO. A matrix holds, for each pixel to
be made along one axis, the weights of all pixels that there are.
"""

import numpy as np
from jaxtyping import Float64

Weights = Float64[np.ndarray, "target source"]

Pieces = tuple[tuple[float, float, tuple[float, ...]], ...]
"""Of a kernel over distances in pixels: from, to, and a polynomial, its highest power first.

All are zero where their pieces end, and the later ones where they start: each can be held still outside of
its piece and all be added up.
"""

# What Keras does on JAX, as Pillow does it.
KERNELS: dict[str, Pieces] = {
    "bilinear": ((0.0, 1.0, (-1.0, 1.0)),),
    # Keys, R. G. (1981). Cubic convolution interpolation for digital image processing. IEEE Transactions
    # on Acoustics, Speech, and Signal Processing 29, 1153-1160; a = -0.5.
    "bicubic": ((0.0, 1.0, (1.5, -2.5, 0.0, 1.0)), (1.0, 2.0, (-0.5, 2.5, -4.0, 2.0))),
}


def to_centres(target: int) -> Float64[np.ndarray, "target 1"]:
    """The middles of the pixels to be made, in their own pixels."""
    return np.arange(target)[:, None] + 0.5


def to_weights(kernel: str, source: int, target: int) -> Weights:
    """The weights with which a size becomes another one; each row adds up to one.

    Args:
        kernel: A name in `KERNELS`.
        source: Pixels that there are.
        target: Pixels to be made.
    """
    ratio = source / target
    gaps = np.abs(to_centres(target) * ratio - 0.5 - np.arange(source))
    distances = gaps / max(ratio, 1.0)  # averages what shrinks, and does not sample it
    weights = np.zeros((target, source))
    for start, end, polynomial in KERNELS[kernel]:
        weights += np.polyval(polynomial, distances.clip(start, end))
    return weights / weights.sum(axis=1, keepdims=True)
