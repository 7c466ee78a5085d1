"""Mean and variance of features, of all images or of those that each member learns from."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32

from pneumo_keras.arrays import Features
from pneumo_keras.features.store import SLICE, FeatureTable
from pneumo_keras.model.head import Moments

ImageWeights = Bool[np.ndarray, "n *members"] | Float[np.ndarray, "n *members"]


def compute_moments(
    views: Sequence[FeatureTable | Float32[np.ndarray, "_n d"]], weights: ImageWeights | None = None
) -> tuple[Moments, Moments]:
    """Mean and variance of each feature over all images and views, in two passes.

    Args:
        views: Features (n, d); of the same images where these carry weights.
        weights: Of each image, or of each image for each member; all count alike without. A mask
            leaves images out.

    Returns:
        Each (d), or (members, d) where each member weighs the images in its own way.
    """
    # Squares about the overall mean, or those of large means would swallow small variances.
    centre = sum(rows.sum(axis=0, dtype=np.float64) for view in views for _, rows in _iterate(view))
    centre = np.asarray(centre / sum(map(len, views)))
    total, sums, squares = np.float64(0), np.float64(0), np.float64(0)
    for view in views:
        weighed = np.ones(len(view)) if weights is None else weights.astype(np.float64)
        for start, rows in _iterate(view):
            part, shifted = weighed[start : start + len(rows)].T, rows - centre
            total, sums, squares = total + part.sum(-1), sums + part @ shifted, squares + part @ shifted**2
    counts = np.expand_dims(total, -1)
    shift = sums / counts
    return centre + shift, squares / counts - shift**2


def _iterate(view: FeatureTable | Features) -> Iterator[tuple[int, Features]]:
    for start in range(0, len(view), SLICE):
        yield start, view[start : start + SLICE]
