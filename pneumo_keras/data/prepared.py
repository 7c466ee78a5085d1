"""Each split of a set of images as a TFDS data set on disk, made once.

TFDS takes a second to import and is needed by those who write images or read them: where features are
in the cache, labels and fingerprints do.
"""

import dataclasses
import functools
import io
import json
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt32
from PIL import Image

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.images import AT_ONCE, Rows
from pneumo_keras.data.preparation import (
    CHECKSUMS,
    LABELS,
    Edition,
    OpenRaw,
    prepare,
    sum_pixels,
    untouched_root_logger,
)
from pneumo_keras.data.seal import BrokenSealError, check_seal
from pneumo_keras.errors import DataError
from pneumo_keras.storage.cache import PREPARED, mark_used

log = logging.getLogger("pneumo_keras")

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


@dataclass(frozen=True)
class PreparedImages:
    """A verified split as a data set on disk, decoded image by image as it is read.

    An image whose pixels are not those that were written is found when it is read; then all are prepared
    anew.

    Attributes:
        folder: Where it lies; safe to remove.
        edition: What it is called.
        split: Its name.
        shape: Height and width in pixels.
        labels: Of all images, in their order.
        checksums: Of the pixels of each image.
        digest: SHA-256 of all pixels, taken when they were written.
        mend: Prepares the images anew, unless what it is given finds them whole when its turn comes.
    """

    folder: Path
    edition: Edition
    split: str
    shape: tuple[int, int]
    labels: Labels
    checksums: UInt32[np.ndarray, " n"]
    digest: str
    mend: Callable[[Callable[[], bool]], None]

    def __getstate__(self) -> dict[str, Any]:
        """For another process: nothing that is open, and no way to prepare what this one has prepared."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "mend": functools.partial(_refuse_to_mend, self.folder)}

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """SHA-256 of all pixels."""
        return self.digest

    def read(self, rows: Rows) -> Images:
        """The images of these rows.

        Raises:
            DataError: They are gone or damaged, and cannot be prepared anew.
        """
        indices = np.arange(len(self))[rows]
        try:
            return self._decode(indices)
        except UNREADABLE as error:
            _warn_of_damage(self.folder, "images that cannot be read", error)
        self.mend(lambda: self._is_whole(indices))
        try:
            return self._decode_again(indices)
        except UNREADABLE as error:
            raise _to_damage(self.folder, "they cannot be read") from error

    def _decode(self, indices: Integer[np.ndarray, " n"]) -> Images:
        images = np.empty((len(indices), *self.shape), np.uint8)
        for start in range(0, len(indices), AT_ONCE):
            at = indices[start : start + AT_ONCE].tolist()
            for offset, example in enumerate(self._records.__getitems__(at), start):
                images[offset] = np.asarray(Image.open(io.BytesIO(example["image"])))
                if sum_pixels(images[offset]) != self.checksums[indices[offset]]:
                    raise ValueError(f"image {indices[offset]} has other pixels than were written")
        return images

    def _decode_again(self, indices: Integer[np.ndarray, " n"]) -> Images:
        """From files that are opened anew."""
        for opened in ("_records", "builder"):
            self.__dict__.pop(opened, None)
        return self._decode(indices)

    def _is_whole(self, indices: Integer[np.ndarray, " n"]) -> bool:
        try:
            self._decode_again(indices)
        except UNREADABLE:
            return False
        return True

    @functools.cached_property
    def builder(self) -> Any:
        """The door to TFDS."""
        with untouched_root_logger():
            from pneumo_keras.data.builder import ImageBuilder

            return ImageBuilder(self.edition, size=self.shape[0], data_dir=self.folder)

    @functools.cached_property
    def _records(self) -> Any:
        with untouched_root_logger():
            return self.builder.open_records(self.split)


def load_prepared(
    edition: Edition, address: str, split: str, *, size: int, cache: Path, limit: int, open_raw: OpenRaw
) -> PreparedImages:
    """The prepared data set of a split; prepared first if this is its first time.

    Its folder carries name, size, version, address and split, and takes its name when whole. Where it
    is there, the images that it was made from are not opened. Where it is damaged it is prepared anew.

    Args:
        edition: What it is called.
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
    mend = functools.partial(prepare, edition, open_raw, folder)
    mark_used(folder)

    def load() -> PreparedImages:
        check_seal(folder, address=folder.name)
        notes = folder / edition.name / str(size) / edition.version / "metadata.json"
        try:
            return PreparedImages(
                folder=folder,
                edition=edition,
                split=split,
                shape=(size, size),
                labels=np.load(folder / LABELS, allow_pickle=False),
                checksums=np.load(folder / CHECKSUMS, allow_pickle=False),
                digest=json.loads(notes.read_text(encoding="utf-8"))["fingerprint"],
                mend=mend,
            )
        except OSError as error:  # they were there a moment ago
            raise BrokenSealError(f"a part cannot be read ({error})") from error

    try:
        return load()
    except BrokenSealError as error:
        if os.path.lexists(folder):
            _warn_of_damage(folder, "not what was written", error)
    mend(lambda: _is_sealed(folder))
    PREPARED.shrink(cache, limit)
    try:
        return load()
    except BrokenSealError as error:
        raise _to_damage(folder, str(error)) from error


def _is_sealed(folder: Path) -> bool:
    try:
        check_seal(folder, address=folder.name)
    except BrokenSealError:
        return False
    return True


def _refuse_to_mend(folder: Path, is_whole: Callable[[], bool]) -> None:
    """In another process, which may run on another machine.

    Raises:
        DataError: The images are not there, or damaged.
    """
    if not is_whole():
        raise DataError(
            f"{folder}: prepared images must be readable on every machine of a cluster. Received: they are "
            f"not on {socket.gethostname()}. Name a folder that all share with PNEUMO_KERAS_CACHE."
        )


def _warn_of_damage(folder: Path, found: str, error: Exception) -> None:
    reason = " ".join(str(error).split())[:200]
    log.warning("Prepared images in %s are damaged and are prepared anew: %s (%s)", folder, found, reason)


def _to_damage(folder: Path, found: str) -> DataError:
    return DataError(
        f"{folder}: the prepared images must be whole. Received: {found}. "
        "Remove that folder; the next run prepares it again."
    )
