"""Features on disk: an entry for each view of a set of films through one tap.

An entry is addressed by everything that determines its content, so nothing stale is ever read. It
is written chunk by chunk, and a killed run goes on at the chunk where it stopped.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from pneumo_keras.arrays import Features
from pneumo_keras.errors import DataError
from pneumo_keras.files import write_whole

DAMAGE = (ValueError, TypeError, KeyError)  # of a JSON file that was cut off or written by others


@dataclass(frozen=True)
class Entry:
    """The features of one view of one set of films through one tap.

    `features.npy` has its final size from the start; `done.json` counts the films whose features
    are in it for good; `about.json` says what they are, for people.

    Attributes:
        store: Folder of all entries.
        about: Everything that determines the features.
        shape: Films and features (n, d).
    """

    store: Path
    about: dict[str, Any]
    shape: tuple[int, int]

    @cached_property
    def name(self) -> str:
        """Addressed by content."""
        text = json.dumps([self.about, self.shape], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.store / self.name

    @property
    def file(self) -> Path:
        """The features (n, d), float32."""
        return self.folder / "features.npy"

    @property
    def size(self) -> int:
        """Of all features, in bytes."""
        return self.shape[0] * self._row

    @property
    def _row(self) -> int:
        return self.shape[1] * np.dtype(np.float32).itemsize

    def lock(self) -> filelock.BaseFileLock:
        """Held while the entry is written, so that no two processes compute it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.folder / "writing.lock")

    def count_done(self) -> int:
        """How many films have their features here; 0 where files are missing or damaged."""
        try:
            whole = self.file.stat().st_size > self.size
            return _load_done(self.folder) if whole else 0
        except (FileNotFoundError, *DAMAGE):
            return 0

    def start(self) -> None:
        """Makes room for all features, unless there is."""
        if not self.count_done():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_done(0)
            np.lib.format.open_memmap(self.file, mode="w+", dtype=np.float32, shape=self.shape).flush()

    def mark_used(self, title: str) -> None:
        """So that the entry is not the first to go when the store is full.

        Args:
            title: Whose films these are, in words; no part of the address.
        """
        n, d = self.shape
        about = {"title": title, "n": n, "d": d, **self.about}
        write_whole(self.folder / "about.json", json.dumps(about, indent=2))

    def write(self, start: int, features: Features) -> None:
        """Writes the features of the films from `start` on, then counts them as done."""
        with self.file.open("r+b") as file:
            header = os.fstat(file.fileno()).st_size - self.size
            file.seek(header + self._row * start)
            file.write(features.tobytes())
            file.flush()
            os.fsync(file.fileno())
        self._write_done(start + len(features))

    def _write_done(self, films: int) -> None:
        write_whole(self.folder / "done.json", json.dumps({"films": films}))


@dataclass(frozen=True)
class StoredEntry:
    """An entry as it is found on disk.

    Attributes:
        folder: Of the entry.
        title: Whose films these are, in words.
        n: How many films there are.
        about: What the features are of.
        films: How many films have their features there.
        size: In bytes.
        used: When it was last opened, in seconds since 1970.
    """

    folder: Path
    title: str
    n: int
    about: dict[str, Any]
    films: int
    size: int
    used: float


def load_entry(folder: Path) -> StoredEntry:
    """Finds out what an entry holds.

    Raises:
        FileNotFoundError: There is no entry, or none any more.
        DataError: It is damaged.
    """
    path = folder / "about.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        title, n, done = str(about["title"]), int(about["n"]), _load_done(folder)
    except DAMAGE as error:
        raise DataError(
            f"Features in {folder} are damaged ({error!r}). Remove them with: pneumo-keras cache clear"
        ) from error
    return StoredEntry(folder, title, n, about, done, _measure(folder), path.stat().st_mtime)


def _load_done(folder: Path) -> int:
    return int(json.loads((folder / "done.json").read_text(encoding="utf-8"))["films"])


def _measure(folder: Path) -> int:
    """Bytes of all files, of which some may vanish meanwhile: they are written beside and moved."""
    size = 0
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
    return size
