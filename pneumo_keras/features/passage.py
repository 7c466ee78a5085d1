"""The passage of films through the frozen network, in batches of CHUNK, here or wherever it is pickled to."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np

from pneumo_keras.arrays import Features, ImageBatch, lengthen
from pneumo_keras.data.films import Films
from pneumo_keras.engines.runner import Runner
from pneumo_keras.features.entry import CHUNK
from pneumo_keras.features.views import View
from pneumo_keras.model.backbone import select_taps
from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.prefetch import Prefetch


@dataclass
class Passage:
    """Films in a view on their way through some taps of the frozen network.

    Attributes:
        frozen: Films -> features.
        build_runner: Makes a backbone run over a stream of batches of CHUNK images.
        taps: Whose features are computed, side by side.
        films: Of any size.
        view: How they are seen.
        waited: Seconds that the network has waited for films.
    """

    frozen: FrozenPart
    build_runner: Callable[[keras.Model], Runner]
    taps: Sequence[str]
    films: Films
    view: View
    waited: float = field(default=0.0, init=False)

    def run(self, chunks: Iterable[int]) -> Generator[Features, None, None]:
        """The features of chunks of films, each of CHUNK rows: at the end the last film is repeated."""
        batches = Prefetch(self._prepare(chunks))
        try:
            yield from self._runner(batches)
        finally:
            self.waited += batches.waited

    @cached_property
    def _runner(self) -> Runner:
        return self.build_runner(select_taps(self.frozen.backbone, self.taps))

    def _prepare(self, chunks: Iterable[int]) -> Iterator[ImageBatch]:
        for chunk in chunks:
            first = CHUNK * chunk
            rows = np.arange(first, first + CHUNK).clip(max=len(self.films) - 1)
            films = lengthen(self.films.read(slice(first, first + CHUNK)), CHUNK)
            # Compiled: operation by operation it takes longer than to vary the films.
            yield self.frozen.scale.predict_on_batch(self.view.enlarge(films, rows, self.frozen))
