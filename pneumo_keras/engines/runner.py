"""What every engine makes of a backbone: a runner, which turns a stream of image batches into features.

Imports nothing of Keras, for those who pass runners on without running one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32

from pneumo_keras.arrays import Features, ImageBatch

# Batches of one stream may differ in their number of images: that axis is left unchecked.
ImageStream = Iterable[Float32[np.ndarray, "_n size size 3"]]
Runner = Callable[[ImageStream], Iterator[Features]]


def run_ahead(compute: Callable[[ImageBatch], Any], batches: ImageStream) -> Iterator[Features]:
    """Starts a batch before it yields the features of the one before.

    This helps where `compute`, images in [-1, 1] -> features (n, d), returns before they are there.
    """
    pending = None
    for images in batches:
        started = compute(images)
        if pending is not None:
            yield np.asarray(pending)
        pending = started
    if pending is not None:
        yield np.asarray(pending)
