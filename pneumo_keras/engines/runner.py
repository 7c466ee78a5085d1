"""What every engine makes of a backbone: a runner, which turns a stream of image batches into features."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from pneumo_keras.arrays import Features, ImageBatch

Runner = Callable[[Iterable[ImageBatch]], Iterator[Features]]


def run_ahead(compute: Callable[[ImageBatch], Any], batches: Iterable[ImageBatch]) -> Iterator[Features]:
    """Starts a batch before it hands over the one before.

    Args:
        compute: Images in [-1, 1] -> features (n, d), best one that returns before they are there.
        batches: Of images.
    """
    pending = None
    for images in batches:
        started = compute(images)
        if pending is not None:
            yield np.asarray(pending)
        pending = started
    if pending is not None:
        yield np.asarray(pending)
