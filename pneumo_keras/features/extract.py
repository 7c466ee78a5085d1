"""From films to features: each view passes the frozen network once, then comes from the cache."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import ImageBatch
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.engines.runner import Runner
from pneumo_keras.features.augmentation import Vary
from pneumo_keras.features.prefetch import Prefetch
from pneumo_keras.features.store import Entry, FeatureTable, shrink_store
from pneumo_keras.model.backbone import compute_fingerprint, list_taps, select_taps
from pneumo_keras.progress import show_progress

log = logging.getLogger("pneumo_keras")

CHUNK = 32  # films that are augmented, pass the network and are written together


@dataclass(frozen=True)
class View:
    """One way of seeing the films: as they are, or varied at random.

    Attributes:
        vary: Applied to the enlarged films; None for the plain view.
        name: Of the view, in messages; empty for the plain one.
        key: Starts the random draws, together with the number of the chunk.
        about: What tells this view from others.
    """

    vary: Vary | None = None
    name: str = ""
    key: tuple[int, ...] = ()
    about: dict[str, Any] = field(default_factory=lambda: {"view": "plain"})


PLAIN = View()
MIRRORED = View(
    vary=lambda images, *_: keras.ops.flip(images, axis=2), name="mirrored", about={"view": "mirrored"}
)


@dataclass(frozen=True)
class Extractor:
    """Everything between films and features.

    Attributes:
        resize: Films (n, height, width, 1) -> (n, size, size, 1).
        scale: (n, size, size, 1) -> images (n, size, size, 3) in [-1, 1].
        backbone: Images (n, size, size, 3) -> features (n, d), frozen.
        build_network: Makes a backbone run over a stream of batches of CHUNK images.
        about: What computes the features: engine, precision, backend, device.
        store: Folder of the cached features.
        limit: Of the store, in bytes; the entries that were used longest ago go first.
    """

    resize: keras.Model
    scale: keras.Model
    backbone: keras.Model
    build_network: Callable[[keras.Model], Runner]
    about: dict[str, Any]
    store: Path
    limit: int

    def extract(self, films: LabelledFilms, name: str, view: View = PLAIN) -> FeatureTable:
        """Features of the films in one view, from the cache where they are there.

        Args:
            films: Of any size.
            name: Of the films, in messages.
            view: How they are seen.
        """
        entries = self._list_entries(films, view)
        name = f"{name}, {view.name}" if view.name else name
        with contextlib.ExitStack() as locks:
            for entry in sorted(entries.values(), key=lambda entry: entry.folder):
                locks.enter_context(entry.lock())
            missing = {tap: entry for tap, entry in entries.items() if entry.count_done() < len(films)}
            if missing:
                self._fill(missing, films, name, view)
            else:
                log.info("Features of %s: from the cache", name)
            for entry in entries.values():
                entry.mark_used()
        for gone in shrink_store(self.store, self.limit, [entry.folder for entry in entries.values()]):
            log.info("Removed the oldest features, %.0f MB: the cache is full", gone.size / 1e6)
        return FeatureTable(tuple(entry.file for entry in entries.values()), len(films))

    def _list_entries(self, films: LabelledFilms, view: View) -> dict[str, Entry]:
        about = {**self.about, **view.about, "films": films.fingerprint, "n": len(films)}
        about["image_size"] = self.backbone.input_shape[1]
        return {
            tap: Entry(self.store, {**about, "weights": self._weights[tap], "tap": tap}, (len(films), d))
            for tap, d in list_taps(self.backbone).items()
        }

    @functools.cached_property
    def _weights(self) -> dict[str, str]:
        """Fingerprint of the layers below each tap; hashed once, since they are frozen."""
        return {
            tap: compute_fingerprint(select_taps(self.backbone, [tap])) for tap in list_taps(self.backbone)
        }

    def _fill(self, entries: dict[str, Entry], films: LabelledFilms, name: str, view: View) -> None:
        started = time.monotonic()
        network = self.build_network(select_taps(self.backbone, list(entries)))
        for entry in entries.values():
            entry.start()
        done = min(entry.count_done() for entry in entries.values())
        columns = np.cumsum([entry.shape[1] for entry in entries.values()])[:-1]
        with show_progress(f"Features of {name}", len(films), "films") as progress:
            progress.advance(done)
            batches = Prefetch(self._prepare(films, done, view))
            for features in network(batches):
                stop = min(done + CHUNK, len(films))
                parts = np.split(features[: stop - done], columns, axis=1)
                for entry, part in zip(entries.values(), parts, strict=True):
                    entry.write(done, part)
                progress.advance(stop - done)
                done = stop
        seconds = time.monotonic() - started
        log.info(
            "Features of %s: computed in %.1f s, of which the network waited for films %.1f %%",
            name,
            seconds,
            100 * batches.waited / seconds,
        )

    def _prepare(self, films: LabelledFilms, start: int, view: View) -> Iterator[ImageBatch]:
        for first in range(start, len(films), CHUNK):
            images = films.read(slice(first, first + CHUNK))[..., None].astype(np.float32)
            images = self.resize(_pad(images))
            if view.vary is not None:
                images = view.vary(images, *view.key, first // CHUNK)
            yield np.asarray(keras.ops.convert_to_numpy(self.scale(images)))


def _pad(images: np.ndarray) -> np.ndarray:
    """Repeats the last film, so that all batches have the shape the network is compiled for."""
    missing = CHUNK - len(images)
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images
