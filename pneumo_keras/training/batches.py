"""Batches for `fit`: shuffled anew in every epoch from one seed, or in their order."""

from collections.abc import Sequence

import keras
import numpy as np
from jaxtyping import Int64

from pneumo_keras.arrays import Labels, MemberWeights
from pneumo_keras.features.store import FeatureTable
from pneumo_keras.features.views import SeenFilms

Table = FeatureTable | SeenFilms | np.ndarray
"""Inputs of a fit, of which any rows can be read."""


class Batches(keras.utils.PyDataset):
    """Every film once an epoch; a film's views take turns from epoch to epoch.

    Reads only the rows of a batch, so that the features may stay on disk.

    Args:
        views: The same films in each.
        labels: Of the films.
        batch_size: Films in a batch.
        seed: Of a new order in each epoch; None for the films' own.
        weights: Of each film for each member (n, members), if any.
        workers: Threads that make batches ahead of the fit; with one it makes its own.
    """

    def __init__(
        self,
        views: Sequence[Table],
        labels: Labels,
        *,
        batch_size: int,
        seed: int | None,
        weights: MemberWeights | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__(workers=workers)
        self._views, self._labels, self._weights = views, labels, weights
        self._batch_size, self._epoch = batch_size, 0
        self._random = None if seed is None else np.random.default_rng(seed)
        self._order = self._draw_order()

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = np.sort(self._order[index * self._batch_size : (index + 1) * self._batch_size])
        turns = (rows + self._epoch) % len(self._views)
        # By view, so that each is read once; the order inside a batch does not matter.
        rows_by_view = [rows[turns == turn] for turn in range(len(self._views))]
        batch = [view[rows] for view, rows in zip(self._views, rows_by_view, strict=True) if len(rows)]
        rows = np.concatenate(rows_by_view)
        targets = [part[rows] for part in (self._labels, self._weights) if part is not None]
        return np.concatenate(batch), *targets

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._order = self._draw_order()

    def _draw_order(self) -> Int64[np.ndarray, " n"]:
        n = len(self._labels)
        return np.arange(n) if self._random is None else self._random.permutation(n)
