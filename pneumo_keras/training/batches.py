"""Batches for `fit`: shuffled in every epoch from one seed, or in their order."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import numpy as np
from jaxtyping import Int64

from pneumo_keras.arrays import Labels, MemberWeights, pad
from pneumo_keras.features.store import FeatureTable
from pneumo_keras.features.views import SeenImages
from pneumo_keras.training.members import PADDING

Table = FeatureTable | SeenImages | np.ndarray
"""Inputs of a fit, of which any rows can be read."""

IN_MEMORY = 2**30  # bytes of features of a split that stay in memory and are not read again in every epoch


class Batches(keras.utils.PyDataset):
    """Every image once an epoch; an image's views take turns from epoch to epoch.

    Reads only the rows of a batch, so that many features may stay on disk; few are loaded at once. An epoch
    has the same batches whatever the backend does before it, since `start_epoch` selects it.

    Args:
        views: The same images in each.
        labels: Labels of the images.
        batch_size: Images in a batch.
        seed: Seed of a new order in each epoch; None for the images' own.
        weights: Weight of each image for each member (n, members), if any.
        local_rows: Rows of each batch that are read here, the rest elsewhere; the last batch is padded to the
            size of the others, with `PADDING` for labels. None for all, and no padding.
        workers: Threads that make batches ahead of the fit; with one it makes its own. Keras' own threads
            would pass batches of one epoch to the next one (3.15).

    Attributes:
        epoch: Number of the epoch that is read, from 1.
        skip: Number of its batches that are left out, since they are done.
    """

    def __init__(
        self,
        views: Sequence[Table],
        labels: Labels,
        *,
        batch_size: int,
        seed: int | None,
        weights: MemberWeights | None = None,
        local_rows: slice | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__()
        self._views, self._labels, self._weights = _load_small(views), labels, weights
        self._batch_size, self._seed, self._local_rows = batch_size, seed, local_rows
        self._pool = ThreadPoolExecutor(workers, "batches") if workers > 1 else None
        self._ahead = workers
        self._coming: dict[int, Future[tuple[np.ndarray, ...]]] = {}
        self._orders = self._draw_orders()
        self._order = next(self._orders)
        self.epoch = self.skip = 0  # Keras learns the shapes from an epoch before the first

    def start_epoch(self, epoch: int, *, skip: int = 0) -> None:
        """Turns to an epoch, the same one or a later one, and leaves out as many of its batches."""
        if epoch < self.epoch:
            raise ValueError(f"Epochs come one after the other. Received: {epoch} after {self.epoch}")
        for future in self._coming.values():
            future.cancel()
        self._coming.clear()
        for _ in range(epoch - self.epoch):
            self._order = next(self._orders)
        self.epoch, self.skip = epoch, skip

    def count_batches(self) -> int:
        """Of a whole epoch."""
        return -(-len(self._labels) // self._batch_size)

    def __len__(self) -> int:
        return self.count_batches() - self.skip

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        if self._pool is None:
            return self._read(index + self.skip)
        for ahead in range(index, min(index + self._ahead, len(self))):
            if ahead not in self._coming:
                self._coming[ahead] = self._pool.submit(self._read, ahead + self.skip)
        return self._coming.pop(index).result()

    def _read(self, index: int) -> tuple[np.ndarray, ...]:
        rows = np.sort(self._order[index * self._batch_size : (index + 1) * self._batch_size])
        turns = (rows + self.epoch) % len(self._views)
        # By view, so that each is read once; the order inside a batch does not matter.
        rows = rows[np.argsort(turns, kind="stable")]
        if self._local_rows is None:
            return self._read_rows(rows)
        own = rows[self._local_rows]
        size = len(range(self._batch_size)[self._local_rows])
        inputs, labels, *weights = self._read_rows(own if len(own) else rows[-1:])
        labels = np.append(labels[: len(own)], np.full(size - len(own), PADDING))
        return pad(inputs, size), labels, *(pad(part, size) for part in weights)

    def _read_rows(self, rows: Int64[np.ndarray, " rows"]) -> tuple[np.ndarray, ...]:
        """Inputs and targets of images that are ordered by view."""
        turns = (rows + self.epoch) % len(self._views)
        rows_by_view = [rows[turns == turn] for turn in range(len(self._views))]
        batch = [view[rows] for view, rows in zip(self._views, rows_by_view, strict=True) if len(rows)]
        targets = [part[rows] for part in (self._labels, self._weights) if part is not None]
        return np.concatenate(batch), *targets

    def _draw_orders(self) -> Iterator[Int64[np.ndarray, " n"]]:
        """The images in a new order for each epoch."""
        n = len(self._labels)
        random = None if self._seed is None else np.random.default_rng(self._seed)
        while True:
            yield np.arange(n) if random is None else random.permutation(n)


def _load_small(views: Sequence[Table]) -> Sequence[Table]:
    tables = [view for view in views if isinstance(view, FeatureTable)]
    if sum(table.size for table in tables) > IN_MEMORY:
        return views
    return [view[:] if isinstance(view, FeatureTable) else view for view in views]
