"""Features on disk: an entry for each view of a set of films through one tap.

An entry is addressed by everything that determines its content, so nothing stale is ever read. It
is written chunk by chunk, and a killed run goes on at the chunk where it stopped.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from jaxtyping import Float64, Integer

from pneumo_keras.arrays import Features
from pneumo_keras.files import write_whole

SLICE = 1024  # rows in memory at once, where all of them are read

Moments = Float64[np.ndarray, " d"]


@dataclass(frozen=True)
class Entry:
    """The features of one view of one set of films through one tap.

    `features.npy` has its final size from the start; `done.json` counts the films whose features
    are in it for good.

    Attributes:
        store: Folder of all entries.
        about: Everything that determines the features.
        shape: Films and features (n, d).
    """

    store: Path
    about: dict[str, Any]
    shape: tuple[int, int]

    @property
    def folder(self) -> Path:
        """Addressed by content."""
        text = json.dumps(self.about, sort_keys=True)
        return self.store / hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def file(self) -> Path:
        """The features (n, d), float32."""
        return self.folder / "features.npy"

    def lock(self) -> filelock.BaseFileLock:
        """Held while the entry is written, so that no two processes compute it."""
        self.store.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(f"{self.folder}.lock")

    def count_done(self) -> int:
        """How many films have their features here."""
        try:
            return json.loads((self.folder / "done.json").read_text(encoding="utf-8"))["films"]
        except FileNotFoundError:
            return 0

    def start(self) -> None:
        """Makes room for all features, unless there is."""
        if self.count_done():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "about.json", json.dumps(self.about, indent=2))
        np.lib.format.open_memmap(self.file, mode="w+", dtype=np.float32, shape=self.shape).flush()

    def mark_used(self) -> None:
        """So that the entry is not the first to go when the store is full."""
        os.utime(self.folder / "about.json")

    def write(self, start: int, features: Features) -> None:
        """Writes the features of the films from `start` on, then counts them as done."""
        row = features.itemsize * self.shape[1]
        with self.file.open("r+b") as file:
            header = os.fstat(file.fileno()).st_size - row * self.shape[0]
            file.seek(header + row * start)
            file.write(features.tobytes())
            file.flush()
            os.fsync(file.fileno())
        write_whole(self.folder / "done.json", json.dumps({"films": start + len(features)}))


@dataclass(frozen=True)
class StoredEntry:
    """An entry as it is found on disk.

    Attributes:
        folder: Of the entry.
        about: What the features are of.
        films: How many films have their features there.
        size: In bytes.
        used: When it was last read or written, in seconds since 1970.
    """

    folder: Path
    about: dict[str, Any]
    films: int
    size: int
    used: float


@dataclass(frozen=True)
class FeatureTable:
    """The features of one view of the films, taps side by side (n, d), read when asked for.

    Attributes:
        files: An entry's features for each tap.
        n: Films.
    """

    files: tuple[Path, ...]
    n: int

    def __len__(self) -> int:
        return self.n

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.stat().st_size for file in self.files)

    def __getitem__(self, rows: slice | Integer[np.ndarray, " b"]) -> Features:
        # Mapped anew each time: pages of a map that stays open would count as memory in use.
        return np.concatenate([np.load(file, mmap_mode="r")[rows] for file in self.files], axis=1)

    def iterate(self) -> Iterator[Features]:
        """All rows in slices."""
        for start in range(0, self.n, SLICE):
            yield self[start : start + SLICE]


def list_entries(store: Path) -> list[StoredEntry]:
    """All entries of a store, the one that was used longest ago first."""
    entries = []
    for path in store.glob("*/about.json"):
        about = json.loads(path.read_text(encoding="utf-8"))
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        films = Entry(store, about, (0, 0)).count_done()
        entries.append(StoredEntry(path.parent, about, films, size, path.stat().st_mtime))
    return sorted(entries, key=lambda entry: entry.used)


def shrink_store(store: Path, limit: int, keep: Iterable[Path]) -> list[StoredEntry]:
    """Removes entries, the one that was used longest ago first, until the store fits its limit.

    Args:
        store: Folder of all entries.
        limit: In bytes.
        keep: Folders of entries that stay in any case.

    Returns:
        What was removed. Entries that another process is writing stay.
    """
    entries, kept = list_entries(store), set(keep)
    excess = sum(entry.size for entry in entries) - limit
    removed = []
    for entry in entries:
        if excess > 0 and entry.folder not in kept and remove_entry(entry.folder):
            excess -= entry.size
            removed.append(entry)
    return removed


def remove_entry(folder: Path) -> bool:
    """Removes an entry, unless another process is writing it; whether it is gone."""
    try:
        with filelock.FileLock(f"{folder}.lock", timeout=0):
            (folder / "done.json").unlink(missing_ok=True)  # first, so that no half is taken for a whole
            shutil.rmtree(folder)
    except filelock.Timeout:
        return False
    return True


def compute_moments(tables: Sequence[FeatureTable]) -> tuple[Moments, Moments]:
    """Mean and variance (d) of each feature over all films and views, in two passes."""
    n = sum(len(table) for table in tables)
    mean = np.sum([rows.sum(axis=0, dtype=np.float64) for rows in _iterate(tables)], axis=0) / n
    squares = (((rows - mean) ** 2).sum(axis=0) for rows in _iterate(tables))
    return mean, np.sum(list(squares), axis=0) / n


def _iterate(tables: Sequence[FeatureTable]) -> Iterator[Features]:
    for table in tables:
        yield from table.iterate()
