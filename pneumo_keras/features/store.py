"""All features that are kept: which there are, who uses them, and what goes when they are too many."""

import contextlib
import logging
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from pneumo_keras.arrays import Features
from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.features.entry import Entry, StoredEntry, load_entry
from pneumo_keras.storage.chunked import remove
from pneumo_keras.storage.hold import Hold, load_held, lock_store

log = logging.getLogger("pneumo_keras")

# What a folder answers that cannot be written; the last comes from filelock, where nothing can be locked.
UNWRITABLE = (OSError, NotImplementedError)
NAME = re.compile("[0-9a-f]{32}")  # of an entry
SLICE = 1024  # rows in memory at once, where all of them are read


@dataclass(frozen=True)
class FeatureTable:
    """The features of one view of the images, feature layers side by side (n, d), read when asked for.

    Attributes:
        files: Each feature layer's features.
        n: Images.
        hold: Keeps the files where they are as long as the table is used.
    """

    files: dict[str, Path]
    n: int
    hold: Hold | None = None

    def __len__(self) -> int:
        return self.n

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.stat().st_size for file in self.files.values())

    def __getitem__(self, rows: slice | Integer[np.ndarray, " b"]) -> Features:
        """The features of these images.

        Raises:
            DataError: They were taken away, where nobody could be kept from it.
        """
        try:
            # Mapped anew each time: pages of a map that stays open would count as memory in use.
            parts = [np.load(file, mmap_mode="r")[rows] for file in self.files.values()]
        except (OSError, ValueError) as error:
            raise DataError(f"Features that were in use are gone: {error}. Run it again.") from error
        return np.concatenate(parts, axis=1)

    def select(self, feature_layers: Sequence[str]) -> "FeatureTable":
        """The features of some feature layers alone, in the order asked for."""
        return FeatureTable(
            {feature_layer: self.files[feature_layer] for feature_layer in feature_layers}, self.n, self.hold
        )

    def iterate(self) -> Iterator[Features]:
        """All rows in slices."""
        for start in range(0, self.n, SLICE):
            yield self[start : start + SLICE]


class Store:
    """The features that are kept, as one job uses them.

    Where the folder cannot be written, what is there is used, and nobody is kept from removing it.

    Attributes:
        folder: Of all entries.
        limit: In bytes. What was opened longest ago goes first; what any job holds stays.
        held: The entries that this job uses.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.held = Hold(folder)
        self._refusal: Exception | None = None
        self._warned = False

    def check_room(self, entries: Iterable[Entry]) -> None:
        """Checks before any work that all entries of a job find room side by side.

        Raises:
            SettingsError: They take more than the limit.
            DataError: They take more than the disk has, or the folder cannot be written.
        """
        entries = {entry.name: entry for entry in entries}.values()
        need = sum(entry.size for entry in entries)
        if need > self.limit:
            raise SettingsError(
                f"compute.cache_gigabytes must be at least {_to_gigabytes(need)}, which the features of this "
                f"job take: raise it, or lower augmentation.views. Received: {self.limit / 1e9:g}"
            )
        missing = sum(
            entry.size * (entry.shape[0] - entry.count_done()) // entry.shape[0] for entry in entries
        )
        if not missing:
            return
        evicted = max(0, sum(entry.size for entry in list_entries(self.folder)) + missing - self.limit)
        with self.explain_unwritable():
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        if missing > free + evicted:
            raise DataError(
                f"The features of this job take another {_to_gigabytes(missing)} GB in {self.folder}: make "
                "room, name a folder on another disk with PNEUMO_KERAS_CACHE, or lower augmentation.views. "
                f"Received: {free / 1e9:.2f} GB free"
            )

    def hold(self, entries: Iterable[Entry]) -> None:
        """Keeps entries where they are, if the folder can be written."""
        try:
            self.held.add(entry.name for entry in entries)
            self._refusal = None
        except UNWRITABLE as error:
            if self._refusal is None:
                log.info("%s cannot be written (%s): only what is there is used", self.folder, _name(error))
            self._refusal = error

    def mark_used(self, entries: Iterable[Entry], title: str) -> None:
        """Notes that entries are in use, if the folder can be written, and keeps the limit."""
        if self._refusal is None:
            with contextlib.suppress(*UNWRITABLE):
                for entry in entries:
                    entry.mark_used(title)
                self.shrink()

    @contextlib.contextmanager
    def writing(self, entries: Iterable[Entry], title: str) -> Iterator[None]:
        """Entries that nobody else writes, with room for all of their features.

        Raises:
            DataError: They cannot be written.
        """
        with contextlib.ExitStack() as locks:
            with self.explain_unwritable():
                if self._refusal is not None:
                    raise self._refusal
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if not entry.folder.is_dir():
                        remove(entry.folder)
                    locks.enter_context(entry.lock())
                    entry.start()
                    entry.mark_used(title)
                self.shrink()  # now that the new entries have their size
            yield

    @contextlib.contextmanager
    def explain_unwritable(self) -> Iterator[None]:
        """Turns the system's refusal to write into one line.

        Raises:
            DataError: Something inside could not be written.
        """
        try:
            yield
        except UNWRITABLE as error:
            raise DataError(
                f"{self.folder}: the cache must take the features. Received: {_name(error)}. Make room "
                "there, or name another folder with PNEUMO_KERAS_CACHE; what was computed stays."
            ) from error

    def shrink(self) -> None:
        """Removes what nobody holds, damaged entries and then the oldest, until the rest fits the limit.

        Raises:
            OSError: The folder cannot be written.
        """
        with lock_store(self.folder):
            held = load_held(self.folder)
            entries = []
            for folder in _list_folders(self.folder):
                try:
                    entries.append(load_entry(folder))
                except (OSError, DataError):
                    if folder.name not in held and remove(folder):
                        log.info("Removed damaged features: %s", folder)
            excess = sum(entry.size for entry in entries) - self.limit
            for entry in sorted(entries, key=lambda entry: entry.used):
                if excess > 0 and entry.folder.name not in held and remove(entry.folder):
                    excess -= entry.size
                    log.info("Removed the oldest features, %.0f MB: the cache is full", entry.size / 1e6)
        if excess > 0 and not self._warned:
            self._warned = True
            log.warning(
                "The cache exceeds compute.cache_gigabytes=%g by %.2f GB: all of it is in use",
                self.limit / 1e9,
                excess / 1e9,
            )


def list_entries(folder: Path) -> list[StoredEntry]:
    """All entries of a store, the one that was opened longest ago first.

    Damaged ones are left out with a warning; others may come and go meanwhile.
    """
    entries = []
    for path in _list_folders(folder):
        try:
            entries.append(load_entry(path))
        except FileNotFoundError:
            continue
        except (DataError, OSError) as error:
            log.warning("%s", error)
    return sorted(entries, key=lambda entry: entry.used)


def _list_folders(store: Path) -> list[Path]:
    """Those of entries; whatever else lies there is left alone."""
    try:
        return [path for path in store.iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    except OSError:  # there is none, or none that can be read
        return []


def _name(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _to_gigabytes(size: int) -> str:
    return f"{math.ceil(size / 1e7) / 100:g}"
