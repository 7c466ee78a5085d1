"""Each split of the npz file as a TFDS data set on disk, made once.

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.films import AT_ONCE, Rows
from pneumo_keras.data.pneumonia_mnist.archive import ArchivedFilms, open_archive
from pneumo_keras.data.pneumonia_mnist.catalog import VERSION
from pneumo_keras.data.pneumonia_mnist.npz_file import NpzFile
from pneumo_keras.errors import DataError

LABELS = "labels.npy"
# What TFDS, ArrayRecord, NumPy and Pillow raise on damaged files; each was met while damaging them.
UNREADABLE = (EOFError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class PreparedFilms:
    """A verified split of a file as a data set on disk, decoded film by film as it is read.

    Attributes:
        folder: Where it lies; safe to remove.
        split: `train`, `val` or `test`.
        shape: Height and width in pixels.
        labels: Of all films, in the order of the file.
        digest: SHA-256 of all pixels, taken when they were written.
    """

    folder: Path
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
            from pneumo_keras.data.pneumonia_mnist.builder import PneumoniaMnist

            return PneumoniaMnist(config=str(self.shape[0]), data_dir=self.folder)

    @functools.cached_property
    def _records(self) -> Any:
        with _untouched_root_logger():
            return self.builder.open_records(self.split)


def load_prepared(npz: NpzFile, split: str, *, size: int, cache: Path) -> PreparedFilms:
    """The prepared data set of a split of a file; prepared first if this is its first time.

    Its folder carries size, version, SHA-256 of the file and split, and takes its name when whole.
    The other splits of the file are not opened, and no film is decoded.

    Raises:
        DataError: The file breaks a rule, `cache` cannot be written, or what lies there is damaged.
    """
    folder = cache / "datasets" / f"pneumonia_mnist-{size}-{VERSION}-{npz.sha256[:16]}-{split}"
    if not folder.is_dir():
        _prepare(npz, split, size, folder)
    written = folder / "pneumonia_mnist" / str(size) / VERSION
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
    return PreparedFilms(folder, split, (size, size), labels, fingerprint)


def _to_damage(folder: Path, found: str) -> DataError:
    return DataError(
        f"{folder}: the prepared films must be whole. Received: {found}. "
        "Remove that folder; the next run prepares it again."
    )


def _prepare(npz: NpzFile, split: str, size: int, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _prepare_once(open_archive(npz.path, split, size=size), folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache must take the prepared films. Received: {error}. "
            "Make room there or choose another cache folder."
        ) from error


def _prepare_once(films: ArchivedFilms, folder: Path) -> None:
    """Prepares beside `folder` and renames: a killed run leaves nothing that looks whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _untouched_root_logger(), tempfile.TemporaryDirectory() as downloads:
            from pneumo_keras.data.pneumonia_mnist.builder import PneumoniaMnist

            builder = PneumoniaMnist(config=str(films.shape[0]), data_dir=partial, films=films)
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
