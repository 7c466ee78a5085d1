"""The passage of images through the frozen network, in batches of CHUNK, here or wherever it is pickled to."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np

from pneumo_keras.arrays import Features, ImageBatch, lengthen
from pneumo_keras.data.images import ImageSet
from pneumo_keras.engines.runner import Runner
from pneumo_keras.features.store import CHUNK
from pneumo_keras.features.views import View
from pneumo_keras.model.backbone import select_feature_layers
from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.runtime.prefetch import Prefetch


@dataclass
class Passage:
    """Images in a view on their way through some feature layers of the frozen network.

    Attributes:
        frozen: ImageSet -> features.
        build_runner: Makes a backbone run over a stream of batches of CHUNK images.
        feature_layers: Whose features are computed, side by side.
        images: Of any size.
        view: How they are seen.
        waited: Seconds that the network has waited for images.
    """

    frozen: FrozenPart
    build_runner: Callable[[keras.Model], Runner]
    feature_layers: Sequence[str]
    images: ImageSet
    view: View
    waited: float = field(default=0.0, init=False)

    def run(self, chunks: Iterable[int]) -> Generator[Features, None, None]:
        """The features of chunks of images, each of CHUNK rows: at the end the last image is repeated."""
        batches = Prefetch(self._prepare(chunks))
        try:
            yield from self._runner(batches)
        finally:
            self.waited += batches.waited

    @cached_property
    def _runner(self) -> Runner:
        return self.build_runner(select_feature_layers(self.frozen.backbone, self.feature_layers))

    def _prepare(self, chunks: Iterable[int]) -> Iterator[ImageBatch]:
        for chunk in chunks:
            first = CHUNK * chunk
            rows = np.arange(first, first + CHUNK).clip(max=len(self.images) - 1)
            images = lengthen(self.images.read(slice(first, first + CHUNK)), CHUNK)
            # Compiled: operation by operation it takes longer than to vary the images.
            yield self.frozen.scale.predict_on_batch(self.view.enlarge(images, rows, self.frozen))
