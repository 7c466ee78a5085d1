"""Features on disk: an entry for each view of a set of images through one feature layer.

An entry is addressed by everything that determines its content, so nothing stale is ever read. It
is written chunk by chunk, and a killed run goes on at the chunk where it stopped.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pneumo_keras.arrays import Features
from pneumo_keras.errors import DataError
from pneumo_keras.runtime.invocation import to_command
from pneumo_keras.storage.chunked import ChunkedArray, remove
from pneumo_keras.storage.files import write_whole
from pneumo_keras.storage.locks import take_turn

ABOUT = "about.json"
CHUNK = 32  # images that pass the network and are written together
# Of a JSON file that was cut off or written by others.
DAMAGE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Entry:
    """The features of one view of one set of images through one feature layer.

    `features.npy` holds them, with checksums beside; `about.json` says what they are, for people.

    Attributes:
        store: Folder of all entries.
        about: Everything that determines the features.
        shape: Images and features (n, d).
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

    @cached_property
    def array(self) -> ChunkedArray:
        """The features (n, d), float32, in chunks of CHUNK images."""
        return ChunkedArray(self.folder / "features.npy", self.shape, "<f4", CHUNK, self.name)

    @property
    def size(self) -> int:
        """Of all features, in bytes."""
        return self.array.size

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while the entry is written, so that no two processes compute it.

        Raises:
            OSError: There can be no lock, or another one holds it and has long written nothing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with take_turn(
            self.folder / "writing.lock", "it computes the same features", self.array.list_written
        ):
            yield

    def count_done(self) -> int:
        """How many images had their features written; whether those are whole is for `find_missing`."""
        return sum(len(self.array.get_rows(chunk)) for chunk in self.array.list_written())

    def start(self) -> None:
        """Makes room for all features; those that are there stay.

        Raises:
            OSError: They cannot be written.
        """
        if not self.folder.is_dir():
            remove(self.folder)
        self.array.make_room()

    def mark_used(self, title: str) -> None:
        """So that the entry is not the first to go when the store is full.

        Args:
            title: Whose images these are, in words; no part of the address.

        Raises:
            OSError: It cannot be written.
        """
        file = self.folder / ABOUT
        if not file.is_file():
            remove(file)
        write_whole(file, self.describe(title))

    def describe(self, title: str) -> str:
        """What the features are of, as JSON.

        Args:
            title: Whose images these are, in words; no part of the address.
        """
        n, d = self.shape
        return json.dumps({"title": title, "n": n, "d": d, **self.about}, indent=2)

    def write(self, chunk: int, features: Features) -> None:
        """Writes the features of a chunk of images.

        Raises:
            OSError: They cannot be written.
        """
        self.array.write(chunk, features)


@dataclass(frozen=True)
class StoredEntry:
    """An entry as it is found on disk.

    Attributes:
        folder: Of the entry.
        title: Whose images these are, in words.
        n: How many images there are.
        about: What the features are of.
        images: How many images have their features there.
        size: In bytes.
        used: When it was last opened, in seconds since 1970.
    """

    folder: Path
    title: str
    n: int
    about: dict[str, Any]
    images: int
    size: int
    used: float


def load_entry(folder: Path) -> StoredEntry:
    """Finds out what an entry holds.

    Raises:
        FileNotFoundError: There is no entry, or none any more.
        DataError: It is damaged: what it says to be is not what its name says.
    """
    path = folder / ABOUT
    try:
        if path.exists() and not path.is_file():
            raise ValueError("about.json is no file")
        about = json.loads(path.read_text(encoding="utf-8"))
        title, n, d = about["title"], about["n"], about["d"]
        told = {key: value for key, value in about.items() if key not in ("title", "n", "d")}
        entry = Entry(folder.parent, told, (n, d))
        if entry.name != folder.name or not isinstance(title, str):
            raise ValueError("about.json speaks of other features")
        return StoredEntry(
            folder, title, n, about, entry.count_done(), _measure(folder), path.stat().st_mtime
        )
    except DAMAGE as error:
        raise DataError(
            f"Features in {folder} are damaged ({error!r}). Remove them with: {to_command('cache', 'clear')}"
        ) from error


def _measure(folder: Path) -> int:
    """Bytes of all files, of which some may vanish meanwhile: they are written beside and moved."""
    size = 0
    for file in folder.iterdir():
        with contextlib.suppress(OSError):
            size += file.stat().st_size
    return size
