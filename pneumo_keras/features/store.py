"""Features on disk: an entry for each view of a set of images through one feature layer.

An entry is addressed by everything that determines its content, so nothing stale is ever read. It is written
chunk by chunk, and a killed run continues at the chunk where it stopped.
"""

import contextlib
import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from pneumo_keras.arrays import Features
from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.storage.bounded_reading import read_text
from pneumo_keras.storage.cache import FEATURES, mark_used
from pneumo_keras.storage.chunked_array import ChunkedArray
from pneumo_keras.storage.files import wait_for_lock, write_atomically

log = logging.getLogger("pneumo_keras")

ABOUT = "about.json"
CHUNK = 32  # images that pass the network and are written together
SLICE = 1024  # rows in memory at once, where all of them are read


@dataclass(frozen=True)
class Entry:
    """The features, of shape (n, d), of one view of one set of images at one feature layer.

    `parent` is the folder of all entries, `about` everything that determines the features.
    """

    parent: Path
    about: dict[str, Any]
    shape: tuple[int, int]

    @cached_property
    def name(self) -> str:
        """The address: a hash of the content."""
        text = json.dumps([self.about, self.shape], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.parent / self.name

    @cached_property
    def array(self) -> ChunkedArray:
        """The features (n, d), float32, in chunks of CHUNK images."""
        return _to_array(self.folder, self.shape)


@dataclass(frozen=True)
class FeatureTable:
    """The features of one view of n images, feature layers concatenated (n, d), read on access."""

    files: dict[str, Path]
    n: int

    def __len__(self) -> int:
        return self.n

    @property
    def size(self) -> int:
        """The size in bytes."""
        return sum(file.stat().st_size for file in self.files.values())

    def __getitem__(self, rows: slice | Integer[np.ndarray, " b"]) -> Features:
        """The features of these images; DataError where they were removed meanwhile."""
        try:
            # Mapped on each access: pages of a map that stays open would count as memory in use.
            parts = [np.load(file, mmap_mode="r")[rows] for file in self.files.values()]
        except (OSError, ValueError) as error:
            raise DataError(
                f"Features that were in use are gone: {error}. Run it again; where several jobs share a "
                "cache, compute.cache_gigabytes must be enough for all."
            ) from error
        return np.concatenate(parts, axis=1)

    def select(self, feature_layers: Sequence[str]) -> "FeatureTable":
        """The features of some feature layers alone, in the order asked for."""
        return FeatureTable({layer: self.files[layer] for layer in feature_layers}, self.n)


def iterate_rows(table: FeatureTable | np.ndarray) -> Iterator[np.ndarray]:
    """All rows in slices."""
    for start in range(0, len(table), SLICE):
        yield table[start : start + SLICE]


@dataclass(frozen=True)
class Store:
    """All entries in a cache, in `limit` bytes: what was used longest ago is removed first."""

    cache: Path
    limit: int

    @property
    def folder(self) -> Path:
        """The folder of all entries."""
        return self.cache / FEATURES.folder

    def check_space(self, entries: Iterable[Entry]) -> None:
        """Checks before any work that all entries of a job fit, and removes others for them.

        Raises:
            SettingsError: They take more than the limit.
            DataError: They take more than the disk has, or the folder cannot be written.
        """
        entries = {entry.name: entry for entry in entries}.values()
        needed = sum(entry.array.size for entry in entries)
        if needed > self.limit:
            raise SettingsError(
                f"compute.cache_gigabytes must be at least {_to_gigabytes(needed)}, which the features of "
                f"this job take: raise it, or lower augmentation.views. Received: {self.limit / 1e9:g}"
            )
        missing = sum(
            entry.array.size * (entry.shape[0] - entry.array.count_done()) // entry.shape[0]
            for entry in entries
        )
        if not missing:
            return
        for entry in entries:
            mark_used(entry.folder)
        new = sum(entry.array.size for entry in entries if not entry.array.file.exists())
        FEATURES.shrink(self.cache, self.limit, new=new)
        with self.explain_unwritable():
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise DataError(
                f"The features of this job take another {_to_gigabytes(missing)} GB in {self.folder}: free "
                "space, name a folder on another disk with PNEUMO_KERAS_CACHE, or lower augmentation.views. "
                f"Received: {free / 1e9:.2f} GB free"
            )

    @contextlib.contextmanager
    def writing(self, entries: Iterable[Entry], title: str) -> Iterator[None]:
        """Makes the files of entries, and keeps other processes from computing them meanwhile.

        The title names the images, and is not part of the address. DataError where entries cannot
        be written.
        """
        with contextlib.ExitStack() as stack:
            with self.explain_unwritable():
                # In one order for all processes, so that no two wait for each other.
                for entry in sorted(entries, key=lambda entry: entry.name):
                    entry.folder.mkdir(parents=True, exist_ok=True)
                    lock = entry.folder / "lock"
                    stack.enter_context(wait_for_lock(lock, "it computes the same features"))
                    about = {"title": title, "n": entry.shape[0], "d": entry.shape[1], **entry.about}
                    write_atomically(entry.folder / ABOUT, json.dumps(about, indent=2))
                    entry.array.allocate()
            yield

    @contextlib.contextmanager
    def explain_unwritable(self) -> Iterator[None]:
        """Turns the system's refusal to write into a DataError."""
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.folder}: the cache must take the features. Received: {error.strerror or error}. Free "
                "space there, or name another folder with PNEUMO_KERAS_CACHE; what was computed stays."
            ) from error


@dataclass(frozen=True)
class StoredEntry:
    """An entry as it is found on disk, with the features of `images` of its `n` images."""

    folder: Path
    title: str
    n: int
    about: dict[str, Any]
    images: int
    size: int  # bytes
    used: float  # seconds since 1970


def list_entries(cache: Path) -> list[StoredEntry]:
    """All entries below a cache, the one that was used longest ago first; no damaged ones, with a warning."""
    entries = []
    for name, item in FEATURES.list_items(cache).items():
        folder = cache / FEATURES.folder / name
        try:
            about = json.loads(read_text(folder / ABOUT))
            title, n, d = str(about["title"]), int(about["n"]), int(about["d"])
            done = _to_array(folder, (n, d)).count_done()
            entries.append(StoredEntry(folder, title, n, about, done, item.size, item.used))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            log.warning("%s has no features that can be listed: %r", folder, error)
    return sorted(entries, key=lambda entry: entry.used)


def _to_array(folder: Path, shape: tuple[int, int]) -> ChunkedArray:
    return ChunkedArray(folder / "features.npy", shape, "<f4", CHUNK)


def _to_gigabytes(size: int) -> str:
    return f"{math.ceil(size / 1e7) / 100:g}"
