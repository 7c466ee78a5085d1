"""How images become a TFDS data set on disk: once, whole or not at all."""

import contextlib
import logging
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.seal import write_seal
from pneumo_keras.errors import DataError
from pneumo_keras.storage.files import remove, wait_for_lock

LABELS = "labels.npy"
CHECKSUMS = "checksums.npy"
RECORDS = ".array_record"  # in the names of files with images


@dataclass(frozen=True)
class Edition:
    """What prepared images are called, and what is told of them beside.

    Attributes:
        name: Of the data set, in snake case.
        version: Raised with every change of what is written.
        release_notes: What changed, by version.
        description: What the images show and where they come from.
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
class RawImages(Protocol):
    """A split that is to be prepared: its images come once, in their order."""

    @property
    def split(self) -> str:
        """Its name."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every image in pixels."""
        ...

    @property
    def labels(self) -> Labels:
        """Of all images."""
        ...

    def __len__(self) -> int:
        """How many."""
        ...

    def iterate(self) -> Iterator[Images]:
        """All images in their order, some at a time."""
        ...


OpenRaw = Callable[[Path], AbstractContextManager[RawImages]]
"""Opens the images until they are prepared. The path is free for what is kept if that is cut off."""


def sum_pixels(image: UInt8[np.ndarray, "height width"]) -> int:
    """A checksum of an image."""
    return zlib.crc32(np.ascontiguousarray(image).data)


def prepare(edition: Edition, open_raw: OpenRaw, folder: Path, is_whole: Callable[[], bool]) -> None:
    """Prepares images, unless somebody else has done so when their turn comes.

    Args:
        edition: What they are called.
        open_raw: Opens them.
        folder: Where the data set will be. What lies there goes when the new one is whole.
        is_whole: Finds out whether that is so already.

    Raises:
        DataError: `folder` cannot be written, or the images break a rule.
    """
    partial, raw = (folder.with_name(f".{folder.name}.{part}") for part in ("partial", "raw"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock")
        with wait_for_lock(lock, "it prepares the same images"):
            if not is_whole():
                with open_raw(raw) as images:
                    _prepare_once(edition, images, folder, partial)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache must take the prepared images. Received: {error}. "
            "Make room there, or name another folder with PNEUMO_KERAS_CACHE."
        ) from error


def _prepare_once(edition: Edition, images: RawImages, folder: Path, partial: Path) -> None:
    """Prepares beside `folder` and renames: a killed run leaves nothing that looks whole."""
    remove(partial)
    try:
        with untouched_root_logger(), tempfile.TemporaryDirectory() as downloads:
            from pneumo_keras.data.builder import ImageBuilder

            builder = ImageBuilder(edition, size=images.shape[0], data_dir=partial, images=images)
            with _explain_unwritten():
                builder.download_and_prepare(download_dir=downloads)
        np.save(partial / LABELS, images.labels)
        np.save(partial / CHECKSUMS, np.array(builder.checksums, np.uint32))
        notes = [file for file in partial.rglob("*") if file.is_file() and RECORDS not in file.name]
        write_seal(partial, notes, address=folder.name)
        remove(folder)  # if it is there, it is damaged
        partial.replace(folder)
    finally:
        remove(partial)


@contextlib.contextmanager
def _explain_unwritten() -> Iterator[None]:
    """Makes an OSError of what the writer of ArrayRecord files raises: RuntimeError, whatever it is."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error).partition(";")[0]) from error


@contextlib.contextmanager
def untouched_root_logger() -> Iterator[None]:
    """Keeps absl, through which TFDS logs, from configuring the root logger where nobody has.

    A handler there would print every line of ours a second time.
    """
    keeper = logging.NullHandler()
    logging.root.addHandler(keeper)
    try:
        yield
    finally:
        logging.root.removeHandler(keeper)
