"""Each split of an npz file as a TFDS data set on disk, prepared once, atomically.

TFDS takes a second to import: it is imported to write or read images, not for labels and fingerprints.
"""

import contextlib
import dataclasses
import functools
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.images import Rows
from pneumo_keras.data.pneumonia_mnist.archive import NpzFile, open_archive
from pneumo_keras.data.pneumonia_mnist.catalog import DATA_SET, VERSION
from pneumo_keras.data.sources import CACHE_LIMIT
from pneumo_keras.errors import DataError
from pneumo_keras.storage.bounded_reading import load_npz
from pneumo_keras.storage.cache import PREPARED, mark_used
from pneumo_keras.storage.files import remove, wait_for_lock

log = logging.getLogger("pneumo_keras")

T = TypeVar("T")
SUMMARY = "summary.npz"  # labels and fingerprint; zip has a checksum of each
READ_TOGETHER = 256  # records


@dataclass(frozen=True)
class PreparedImages:
    """A split as a data set on disk, decoded image by image as it is read.

    ArrayRecord and PNG have checksums. Where they show damage, all images are prepared again, but not by
    another process, which may run on another machine.
    """

    folder: Path  # of TFDS
    split: str
    shape: tuple[int, int]  # height and width in pixels
    labels: Labels
    sha256: str  # of all pixels
    rebuild: Callable[[Callable[[], Images]], Images] | None

    def __getstate__(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "rebuild": None}

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """SHA-256 of all pixels."""
        return self.sha256

    def read(self, rows: Rows) -> Images:
        """The images of these rows.

        Raises:
            DataError: They are missing or damaged, and cannot be prepared again.
        """
        indices = np.arange(len(self))[rows].tolist()
        try:
            return self._decode(indices)
        except Exception as error:  # TFDS, ArrayRecord and Pillow raise anything on damaged files
            if self.rebuild is None:
                raise DataError(
                    f"{self.folder}: prepared images must be readable on every machine of a cluster. Name a "
                    f"folder that all share with PNEUMO_KERAS_CACHE. Received: {_to_reason(error)}"
                ) from error
            _warn_of_damage(self.folder, error)
        return self.rebuild(lambda: self._decode_again(indices))

    def _decode(self, indices: Sequence[int]) -> Images:
        images = np.empty((len(indices), *self.shape), np.uint8)
        for start in range(0, len(indices), READ_TOGETHER):
            records = self._records.__getitems__(indices[start : start + READ_TOGETHER])
            for at, record in enumerate(records, start):
                images[at] = np.asarray(Image.open(io.BytesIO(record["image"])))
        return images

    def _decode_again(self, indices: Sequence[int]) -> Images:
        """From files that are opened again."""
        self.__dict__.pop("_records", None)
        return self._decode(indices)

    @functools.cached_property
    def _records(self) -> Any:
        with _keep_tfds_quiet():
            from pneumo_keras.data.pneumonia_mnist.tfds_images import open_records

            return open_records(self.folder, self.split)


def load_prepared(
    npz: NpzFile, split: str, *, size: int, cache: Path, limit: int = CACHE_LIMIT
) -> PreparedImages:
    """The prepared images of a split; prepared first if needed.

    Their folder is named after size, version, file and split. Where it is there, the file is not opened.

    Args:
        npz: The file.
        split: `train`, `val` or `test`.
        size: Height and width of its images in pixels.
        cache: The folder below which prepared images are kept.
        limit: In bytes, of all that are kept; the least recently used are removed first.

    Raises:
        DataError: The file breaks a rule, or must be prepared and `cache` cannot be written.
    """
    folder = cache / PREPARED.folder / f"{DATA_SET}-{size}-{VERSION}-{npz.sha256[:16]}-{split}"
    prepare = functools.partial(_prepare, npz.path, split, size, folder)
    read_summary = functools.partial(_load_summary, folder)
    mark_used(folder)
    try:
        labels, sha256 = read_summary()
    except (OSError, ValueError) as error:
        if os.path.lexists(folder):
            _warn_of_damage(folder, error)
        labels, sha256 = prepare(read_summary)
        PREPARED.shrink(cache, limit)
    return PreparedImages(
        folder / DATA_SET / str(size) / VERSION,
        split,
        (size, size),
        labels,
        sha256,
        prepare,
    )


def _load_summary(folder: Path) -> tuple[Labels, str]:
    labels, sha256 = load_npz(folder / SUMMARY, ["labels", "sha256"])
    return labels.astype(np.int64), sha256.tobytes().hex()


def _prepare(path: Path, split: str, size: int, folder: Path, read: Callable[[], T]) -> T:
    """Prepares images, unless another process did so while this one waited, and reads something of them."""
    partial, lock = (folder.with_name(f".{folder.name}.{part}") for part in ("partial", "lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with wait_for_lock(lock, "it prepares the same images"):
            with contextlib.suppress(Exception):
                return read()
            remove(partial)  # of a run that was killed
            try:
                images = open_archive(path, split, size=size)
                with _keep_tfds_quiet():
                    from pneumo_keras.data.pneumonia_mnist.tfds_images import write_images

                    sha256 = np.frombuffer(write_images(images, partial), np.uint8)
                np.savez(partial / SUMMARY, labels=images.labels.astype(np.uint8), sha256=sha256)
                remove(folder)  # if it is there, it is damaged
                partial.replace(folder)
            finally:
                remove(partial)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache must take the prepared images. Received: {error}. "
            "Free some space there, or name another folder with PNEUMO_KERAS_CACHE."
        ) from error
    try:
        return read()
    except Exception as error:
        raise DataError(
            f"{folder}: the prepared images must be intact. Received: {_to_reason(error)}. "
            "Remove that folder; the next run prepares it again."
        ) from error


@contextlib.contextmanager
def _keep_tfds_quiet() -> Iterator[None]:
    """Keeps TFDS from printing to stdout, which is for results.

    Nor does absl, through which it logs, give the root logger a handler where there is none: that would print
    every line of ours a second time.
    """
    handler, absl = logging.NullHandler(), logging.getLogger("absl")
    logging.root.addHandler(handler)
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.removeHandler(handler)
        absl.setLevel(level)


def _warn_of_damage(folder: Path, error: Exception) -> None:
    log.warning("Prepared images in %s are damaged and are prepared again (%s)", folder, _to_reason(error))


def _to_reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
