"""Features on disk: an entry for each view of a set of films through one tap.

An entry is addressed by everything that determines its content, so nothing stale is ever read. It
is written chunk by chunk, and a killed run goes on at the chunk where it stopped.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
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

    def __getitem__(self, rows: slice | Integer[np.ndarray, " b"]) -> Features:
        # Mapped anew each time: pages of a map that stays open would count as memory in use.
        return np.concatenate([np.load(file, mmap_mode="r")[rows] for file in self.files], axis=1)

    def iterate(self) -> Iterator[Features]:
        """All rows in slices."""
        for start in range(0, self.n, SLICE):
            yield self[start : start + SLICE]


def compute_moments(tables: Sequence[FeatureTable]) -> tuple[Moments, Moments]:
    """Mean and variance (d) of each feature over all films and views, in two passes."""
    n = sum(len(table) for table in tables)
    mean = np.sum([rows.sum(axis=0, dtype=np.float64) for rows in _iterate(tables)], axis=0) / n
    squares = (((rows - mean) ** 2).sum(axis=0) for rows in _iterate(tables))
    return mean, np.sum(list(squares), axis=0) / n


def _iterate(tables: Sequence[FeatureTable]) -> Iterator[Features]:
    for table in tables:
        yield from table.iterate()
