"""Images of files, decoded once and kept in the cache: whoever was cut off goes on there."""

import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.decoding import decode_images
from pneumo_keras.data.folder.files import ImageFile
from pneumo_keras.data.images import Preparation, Rows, hash_pixels, iterate_images
from pneumo_keras.errors import DataError
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.cache import PREPARED
from pneumo_keras.storage.chunked_array import ChunkedArray
from pneumo_keras.storage.files import remove, wait_for_lock
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

SHOWN = 20  # broken images by name
CHUNK = 64  # images that are written together
Broken = tuple[str, str]
"""The name of an image that cannot be read, and why."""


@dataclass(frozen=True)
class DecodedImages:
    """Images that were decoded and found whole.

    Attributes:
        array: Where their pixels are.
        labels: Of all images.
    """

    array: ChunkedArray
    labels: Labels

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.array.shape[1], self.array.shape[2]

    @functools.cached_property
    def _sha256(self) -> str:
        return hash_pixels((len(self), *self.shape), iterate_images(self))

    def fingerprint(self) -> str:
        """SHA-256 of all pixels."""
        return self._sha256

    def read(self, rows: Rows) -> Images:
        """The images of these rows.

        Raises:
            DataError: They are not on this machine.
        """
        return np.array(self.pixels[rows])

    @functools.cached_property
    def pixels(self) -> Shaped[np.ndarray, "n height width"]:
        """Mapped: they stay readable here, even if they are removed from the cache."""
        try:
            return self.array.open()
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.array.file}: decoded images must be readable on every machine of a cluster. "
                f"Received: they are not on {socket.gethostname()}. Name a folder that all share with "
                "PNEUMO_KERAS_CACHE."
            ) from error


def load_decoded(
    files: Sequence[ImageFile],
    labels: Labels,
    name: str,
    *,
    preparation: Preparation,
    cache: Path,
    limit: int,
    place: str,
) -> DecodedImages:
    """Images as they are in the cache; what is missing there or damaged is decoded, side by side.

    Args:
        files: With the images.
        labels: Of the images.
        name: In the cache, which tells these images from others.
        preparation: Of the images.
        cache: The folder below which they are kept.
        limit: Bytes of all that are kept. What was used longest ago goes first.
        place: Where the images come from, for the message.

    Raises:
        DataError: Some images cannot be read, or the cache cannot be written.
    """
    file = cache / PREPARED.folder / f"{name}.npy"
    array = ChunkedArray(file, (len(files), preparation.size, preparation.size), "|u1", CHUNK)
    images = DecodedImages(array, labels)
    if array.find_missing():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with wait_for_lock(file.with_name(f".{file.name}.lock"), "it decodes the same images"):
                _decode_missing(array, files, preparation, place)
        except OSError as error:
            raise DataError(
                f"{file}: the cache must take the decoded images. Received: {error}. "
                "Make room there, or name another folder with PNEUMO_KERAS_CACHE."
            ) from error
        PREPARED.shrink(cache, limit)
    with contextlib.suppress(OSError):
        os.utime(file)  # so that it is not the first to go
    _ = images.pixels
    return images


def _decode_missing(
    array: ChunkedArray, files: Sequence[ImageFile], preparation: Preparation, place: str
) -> None:
    array.allocate()
    missing = array.find_missing()
    if not missing:  # another process decoded them
        return
    rest = [files[row] for chunk in missing for row in array.get_rows(chunk)]
    broken: list[Broken] = []
    notes: defaultdict[str, list[str]] = defaultdict(list)
    with (
        contextlib.closing(
            decode_images((str(one.path) for one in rest), preparation=preparation)
        ) as decoded,
        show_progress("Decoding images", len(files), "images", done=len(files) - len(rest)) as progress,
    ):
        for chunk in missing:
            part = [files[row] for row in array.get_rows(chunk)]
            found = list(itertools.islice(decoded, len(part)))
            images = [image.image for image in found if image.image is not None]
            if len(images) == len(part):
                array.write(chunk, np.stack(images))
            for file, image in zip(part, found, strict=True):
                if image.note:
                    notes[image.note].append(file.name)
                if image.image is None:
                    broken.append((file.name, image.reason))
            progress.advance(len(part))
    _warn_of_notes(notes)
    if broken:
        remove(array.file)
        _warn_of_broken(broken)
        name, reason = broken[0]
        raise DataError(
            f"{place}: every image must be one that can be read. Received: {len(broken):,} of {len(files):,} "
            f"that cannot, first {name}: {reason}. Repair or remove them."
        )


def _warn_of_broken(broken: Sequence[Broken]) -> None:
    """Names them, so that all can be repaired before the images are decoded again."""
    for name, reason in broken[:SHOWN]:
        log.warning("%s cannot be read: %s", name, reason)
    if len(broken) > SHOWN:
        log.warning("%s more cannot be read", f"{len(broken) - SHOWN:,}")


def _warn_of_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """Says how files that contradict themselves were read; to each note the names of its files."""
    for note, names in itertools.islice(notes.items(), SHOWN):
        log.warning("%s, first %s: %s", to_amount(len(names), "file"), names[0], note)
