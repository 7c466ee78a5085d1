"""Each split of a set of images as a TFDS data set on disk, prepared once, whole or not at all.

TFDS takes a second to import and is needed by those who write images or read them: where features are in the
cache, labels and fingerprints do.
"""

import contextlib
import dataclasses
import functools
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.images import Edition, RawImages, Rows
from pneumo_keras.errors import DataError
from pneumo_keras.storage.bounded_reading import load_npz
from pneumo_keras.storage.cache import PREPARED, mark_used
from pneumo_keras.storage.files import remove, wait_for_lock

log = logging.getLogger("pneumo_keras")

SUMMARY = "summary.npz"  # labels and fingerprint; zip has a checksum of each
# What TFDS, ArrayRecord, NumPy and Pillow raise on damaged files; each was met while damaging them.
UNREADABLE = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
)


OpenRaw = Callable[[Path], AbstractContextManager[RawImages]]
"""Opens the images until they are prepared. The path is free for what is kept if that is cut off."""


@dataclass(frozen=True)
class PreparedImages:
    """A split as a data set on disk, decoded image by image as it is read.

    ArrayRecord and PNG have checksums. Where they show damage, all images are prepared anew.

    Attributes:
        folder: Where TFDS finds the data set.
        split: Its name.
        shape: Height and width in pixels.
        labels: Of all images, in their order.
        sha256: Of all pixels.
        rebuild: Prepares the images anew, unless what it is given finds them whole when its turn comes; None
            in another process, which may run on another machine.
    """

    folder: Path
    split: str
    shape: tuple[int, int]
    labels: Labels
    sha256: str
    rebuild: Callable[[Callable[[], bool]], None] | None

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
            DataError: They are gone or damaged, and cannot be prepared anew.
        """
        indices = np.arange(len(self))[rows].tolist()
        try:
            return self._decode(indices)
        except UNREADABLE as error:
            if self.rebuild is None:
                raise DataError(
                    f"{self.folder}: prepared images must be readable on every machine of a cluster. Name a "
                    f"folder that all share with PNEUMO_KERAS_CACHE. Received: {_to_reason(error)}"
                ) from error
            _warn_of_damage(self.folder, error)
        self.rebuild(lambda: self._is_readable(indices))
        try:
            return self._decode_again(indices)
        except UNREADABLE as error:
            raise _to_damage(self.folder, error) from error

    def _decode(self, indices: Sequence[int]) -> Images:
        images = np.empty((len(indices), *self.shape), np.uint8)
        for start in range(0, len(indices), 256):
            for at, example in enumerate(self._records.__getitems__(indices[start : start + 256]), start):
                images[at] = np.asarray(Image.open(io.BytesIO(example["image"])))
        return images

    def _decode_again(self, indices: Sequence[int]) -> Images:
        """From files that are opened anew."""
        self.__dict__.pop("_records", None)
        return self._decode(indices)

    def _is_readable(self, indices: Sequence[int]) -> bool:
        try:
            self._decode_again(indices)
        except UNREADABLE:
            return False
        return True

    @functools.cached_property
    def _records(self) -> Any:
        with _keep_tfds_quiet():
            from pneumo_keras.data.tfds_images import open_records

            return open_records(self.folder, self.split)


def load_prepared(
    edition: Edition, address: str, split: str, *, size: int, cache: Path, limit: int, open_raw: OpenRaw
) -> PreparedImages:
    """The prepared images of a split; prepared first if this is its first time.

    Their folder carries name, size, version, address and split. Where it is there, the images that it was
    made from are not opened. Where it is damaged it is prepared anew.

    Args:
        edition: What they are called.
        address: SHA-256 of everything else that the images are made from.
        split: Its name.
        size: Height and width of the images in pixels.
        cache: The folder below which prepared images are kept.
        limit: Bytes of all that are kept. What was used longest ago goes first.
        open_raw: Opens the images that are prepared.

    Raises:
        DataError: The images break a rule, or must be prepared and `cache` cannot be written.
    """
    folder = cache / PREPARED.folder / f"{edition.name}-{size}-{edition.version}-{address[:16]}-{split}"
    rebuild = functools.partial(_prepare, edition, split, size, open_raw, folder)
    mark_used(folder)
    try:
        labels, sha256 = _load_summary(folder)
    except (OSError, ValueError) as error:
        if os.path.lexists(folder):
            _warn_of_damage(folder, error)
        rebuild(lambda: _has_summary(folder))
        PREPARED.shrink(cache, limit)
        try:
            labels, sha256 = _load_summary(folder)
        except (OSError, ValueError) as again:
            raise _to_damage(folder, again) from again
    return PreparedImages(
        folder / edition.name / str(size) / edition.version, split, (size, size), labels, sha256, rebuild
    )


def _load_summary(folder: Path) -> tuple[Labels, str]:
    labels, sha256 = load_npz(folder / SUMMARY, ["labels", "sha256"])
    return labels.astype(np.int64), sha256.tobytes().hex()


def _has_summary(folder: Path) -> bool:
    try:
        _load_summary(folder)
    except (OSError, ValueError):
        return False
    return True


def _prepare(
    edition: Edition, split: str, size: int, open_raw: OpenRaw, folder: Path, is_whole: Callable[[], bool]
) -> None:
    """Prepares images, unless somebody else has done so when their turn comes."""
    partial, raw, lock = (folder.with_name(f".{folder.name}.{part}") for part in ("partial", "raw", "lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with wait_for_lock(lock, "it prepares the same images"):
            if is_whole():
                return
            remove(partial)  # of a run that was killed
            try:
                with open_raw(raw) as images, _keep_tfds_quiet():
                    from pneumo_keras.data.tfds_images import write_images

                    sha256 = np.frombuffer(write_images(edition, images, partial, split, size), np.uint8)
                    np.savez(partial / SUMMARY, labels=images.labels.astype(np.uint8), sha256=sha256)
                remove(folder)  # if it is there, it is damaged
                partial.replace(folder)
            finally:
                remove(partial)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache must take the prepared images. Received: {error}. "
            "Make room there, or name another folder with PNEUMO_KERAS_CACHE."
        ) from error


@contextlib.contextmanager
def _keep_tfds_quiet() -> Iterator[None]:
    """Keeps TFDS from printing to stdout, which belongs to results.

    Nor does absl, through which it logs, give the root logger a handler where nobody has: that would print
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
    log.warning("Prepared images in %s are damaged and are prepared anew (%s)", folder, _to_reason(error))


def _to_damage(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"{folder}: the prepared images must be whole. Received: {_to_reason(error)}. "
        "Remove that folder; the next run prepares it again."
    )


def _to_reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
