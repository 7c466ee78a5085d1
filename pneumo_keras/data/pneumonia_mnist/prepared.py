"""Each split of the npz file as a TFDS data set on disk, made once.

Importing this module imports tensorflow_datasets, which takes a second: do so inside a function.
"""

import contextlib
import io
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from filelock import FileLock
from PIL import Image
from tensorflow_datasets.core.data_sources.base import BaseDataSource

from pneumo_keras.data.films import FilmArray, LabelledFilms
from pneumo_keras.data.pneumonia_mnist.builder import PneumoniaMnist
from pneumo_keras.data.pneumonia_mnist.source import Source
from pneumo_keras.errors import DataError
from pneumo_keras.progress import show_progress

FILMS_AT_ONCE = 256


@dataclass(frozen=True)
class Prepared:
    """A verified split of a file as a data set on disk.

    Attributes:
        folder: Where it lies; safe to remove.
        split: `train`, `val` or `test`.
        size: Height and width of its films in pixels.
        builder: Its door to TFDS.
    """

    folder: Path
    split: str
    size: int
    builder: PneumoniaMnist

    def to_class_counts(self) -> tuple[int, int]:
        """Counts of normal and pneumonia films, as noted when the split was verified."""
        normal, pneumonia = dict(self.builder.info.metadata or {})["class_counts"]
        return normal, pneumonia


def load_prepared(source: Source, split: str, *, size: int, cache: Path) -> Prepared:
    """The prepared data set of a split of a file; prepared first if this is its first time.

    Its folder carries size, version, SHA-256 of the file and split, and takes its name when whole.
    The other splits of the file are not opened.

    Raises:
        DataError: The file breaks a rule, or `cache` cannot be written.
    """
    with _untouched_root_logger():
        return _load_prepared(source, split, size, cache)


def _load_prepared(source: Source, split: str, size: int, cache: Path) -> Prepared:
    tfds.disable_progress_bar()
    version = PneumoniaMnist.VERSION
    folder = cache / "datasets" / f"pneumonia_mnist-{size}-{version}-{source.sha256[:16]}-{split}"
    if not folder.is_dir():
        _prepare(source, split, size, folder)
    builder = PneumoniaMnist(npz=source.path, split=split, config=str(size), data_dir=folder)
    if not builder.data_path.is_dir():
        raise _to_damage(folder, "it is empty")
    return Prepared(folder, split, size, builder)


def read_films(prepared: Prepared) -> LabelledFilms:
    """The films of a split, in the order of the file.

    Raises:
        DataError: They are gone or damaged.
    """
    try:
        with _untouched_root_logger():
            # Pillow decodes: TFDS would take OpenCV where there is one, and miss it aloud elsewhere.
            source = prepared.builder.as_data_source(
                split=prepared.split,  # pyright: ignore[reportCallIssue]  # behind a decorator of TFDS
                decoders={"image": tfds.decode.SkipDecoding()},
            )
            return _read_films(source, prepared.split, prepared.size)
    except (OSError, ValueError, IndexError, RuntimeError) as error:
        raise _to_damage(prepared.folder, "they cannot be read") from error


def _to_damage(folder: Path, found: str) -> DataError:
    return DataError(
        f"{folder}: the prepared films must be whole. Received: {found}. "
        "Remove that folder; the next run prepares it again."
    )


def _read_films(source: BaseDataSource, split: str, size: int) -> LabelledFilms:
    images = np.empty((len(source), size, size), np.uint8)
    labels = np.empty(len(source), np.int64)
    with show_progress(f"Reading the {split} films", len(source), "films") as progress:
        for start in range(0, len(source), FILMS_AT_ONCE):
            indices = range(start, min(start + FILMS_AT_ONCE, len(source)))
            for index, example in zip(indices, source.__getitems__(indices), strict=True):
                images[index] = np.asarray(Image.open(io.BytesIO(example["image"])))
                labels[index] = example["label"]
            progress.advance(len(indices))
    return FilmArray(images, labels)


def _prepare(source: Source, split: str, size: int, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _prepare_once(source, split, size, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache must take the prepared films. Received: {error}. "
            "Make room there or choose another cache folder."
        ) from error


def _prepare_once(source: Source, split: str, size: int, folder: Path) -> None:
    """Prepares beside `folder` and renames: a killed run leaves nothing that looks whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        builder = PneumoniaMnist(npz=source.path, split=split, config=str(size), data_dir=partial)
        with tempfile.TemporaryDirectory() as downloads:
            builder.download_and_prepare(download_dir=downloads)
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
