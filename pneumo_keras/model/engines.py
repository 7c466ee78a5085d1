"""What runs the frozen network over a stream of image batches."""

from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
from jaxtyping import Float32

from pneumo_keras.arrays import Features

ImageBatch = Float32[np.ndarray, "n size size 3"]
Network = Callable[[Iterable[ImageBatch]], Iterator[Features]]


def build_keras_network(backbone: keras.Model) -> Network:
    """The backbone as it is, on the current Keras backend."""

    def stream(batches: Iterable[ImageBatch]) -> Iterator[Features]:
        for images in batches:
            yield np.asarray(backbone.predict_on_batch(images))

    return stream
