"""Each split of a set of films as a TFDS data set on disk, made once.

TFDS takes a second to import and is needed by those who write films or read them: where features are
in the cache, labels and fingerprints do.
"""

import contextlib
import functools
import io
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from filelock import FileLock
from PIL import Image

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.films import AT_ONCE, Rows
from pneumo_keras.errors import DataError

LABELS = "labels.npy"
# What TFDS, ArrayRecord, NumPy and Pillow raise on damaged files; each was met while damaging them.
UNREADABLE = (EOFError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Edition:
    """What prepared films are called, and what is told of them beside.

    Attributes:
        name: Of the data set, in snake case.
        version: Raised with every change of what is written.
        release_notes: What changed, by version.
        description: What the films show and where they come from.
        homepage: Where more is told; "" if nowhere.
        citation: BibTeX; "" where unknown.
        licence: With its address; "" where unknown.
    """

    name: str
    version: str
    release_notes: Mapping[str, str]
    description: str
    homepage: str
    citation: str
    licence: str


@runtime_checkable
class RawFilms(Protocol):
    """A split that is to be prepared: its films come once, in their order."""

    @property
    def split(self) -> str:
        """Its name."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every film in pixels."""
        ...

    @property
    def labels(self) -> Labels:
        """Of all films."""
        ...

    def __len__(self) -> int:
        """How many."""
        ...

    def iterate(self) -> Iterator[Images]:
        """All films in their order, some at a time."""
        ...


OpenRaw = Callable[[Path], AbstractContextManager[RawFilms]]
"""Opens the films until they are prepared. The path is free for what is kept if that is cut off."""


@dataclass(frozen=True)
class PreparedFilms:
    """A verified split as a data set on disk, decoded film by film as it is read.

    Attributes:
        folder: Where it lies; safe to remove.
        edition: What it is called.
        split: Its name.
        shape: Height and width in pixels.
        labels: Of all films, in their order.
        digest: SHA-256 of all pixels, taken when they were written.
    """

    folder: Path
    edition: Edition
    split: str
    shape: tuple[int, int]
    labels: Labels
    digest: str

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """SHA-256 of all pixels."""
        return self.digest

    def read(self, rows: Rows) -> Images:
        """The films of these rows.

        Raises:
            DataError: They are gone or damaged.
        """
        indices = np.arange(len(self))[rows]
        images = np.empty((len(indices), *self.shape), np.uint8)
        try:
            for start in range(0, len(indices), AT_ONCE):
                at = indices[start : start + AT_ONCE].tolist()
                for offset, example in enumerate(self._records.__getitems__(at), start):
                    images[offset] = np.asarray(Image.open(io.BytesIO(example["image"])))
        except UNREADABLE as error:
            raise _to_damage(self.folder, "they cannot be read") from error
        return images

    @functools.cached_property
    def builder(self) -> Any:
        """The door to TFDS."""
        with _untouched_root_logger():
            from pneumo_keras.data.builder import FilmBuilder

            return FilmBuilder(self.edition, size=self.shape[0], data_dir=self.folder)

    @functools.cached_property
    def _records(self) -> Any:
        with _untouched_root_logger():
            return self.builder.open_records(self.split)


def load_prepared(
    edition: Edition, address: str, split: str, *, size: int, cache: Path, open_raw: OpenRaw
) -> PreparedFilms:
    """The prepared data set of a split; prepared first if this is its first time.

    Its folder carries name, size, version, address and split, and takes its name when whole. Where it
    is there, the films that it was made from are not opened.

    Args:
        edition: What it is called.
        address: SHA-256 of everything else that the films are made from.
        split: Its name.
        size: Height and width of the films in pixels.
        cache: The folder below which prepared films are kept.
        open_raw: Opens the films that are prepared.

    Raises:
        DataError: The films break a rule, `cache` cannot be written, or what lies there is damaged.
    """
    folder = cache / "datasets" / f"{edition.name}-{size}-{edition.version}-{address[:16]}-{split}"
    if not folder.is_dir():
        _prepare(edition, open_raw, folder)
    written = folder / edition.name / str(size) / edition.version
    if not written.is_dir():
        raise _to_damage(folder, "it is empty")
    try:
        notes = json.loads((written / "metadata.json").read_text(encoding="utf-8"))
        n, fingerprint = sum(notes["class_counts"]), str(notes["fingerprint"])
        labels = np.load(folder / LABELS, allow_pickle=False)
    except UNREADABLE as error:
        raise _to_damage(folder, "its notes cannot be read") from error
    if labels.dtype != np.int64 or labels.shape != (n,):
        raise _to_damage(folder, f"{labels.size:,} labels for {n:,} films")
    return PreparedFilms(folder, edition, split, (size, size), labels, fingerprint)


def _to_damage(folder: Path, found: str) -> DataError:
    return DataError(
        f"{folder}: the prepared films must be whole. Received: {found}. "
        "Remove that folder; the next run prepares it again."
    )


def _prepare(edition: Edition, open_raw: OpenRaw, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                with open_raw(folder.with_name(f".{folder.name}.raw")) as films:
                    _prepare_once(edition, films, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache must take the prepared films. Received: {error}. "
            "Make room there or choose another cache folder."
        ) from error


def _prepare_once(edition: Edition, films: RawFilms, folder: Path) -> None:
    """Prepares beside `folder` and renames: a killed run leaves nothing that looks whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _untouched_root_logger(), tempfile.TemporaryDirectory() as downloads:
            from pneumo_keras.data.builder import FilmBuilder

            builder = FilmBuilder(edition, size=films.shape[0], data_dir=partial, films=films)
            builder.download_and_prepare(download_dir=downloads)
        np.save(partial / LABELS, films.labels)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _untouched_root_logger() -> Iterator[None]:
    """Keeps absl, through which TFDS logs, from configuring the root logger where nobody has.

    A handler there would print every line of ours a second time.
    """
    keeper = logging.NullHandler()
    logging.root.addHandler(keeper)
    try:
        yield
    finally:
        logging.root.removeHandler(keeper)
