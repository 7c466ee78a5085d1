"""Images of files, decoded once and kept in the cache; decoding that was interrupted continues there."""

import contextlib
import dataclasses
import functools
import itertools
import logging
import socket
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.decoding import decode_images
from pneumo_keras.data.folder.files import ImageFile
from pneumo_keras.data.images import Preparation, Rows, iterate_images, start_hash
from pneumo_keras.data.sources import DataOptions
from pneumo_keras.errors import DataError
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.bounded_reading import load_npz
from pneumo_keras.storage.cache import PREPARED, mark_used
from pneumo_keras.storage.chunked_array import ChunkedArray
from pneumo_keras.storage.files import remove, replace_atomically, wait_for_lock
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

SHOWN = 20  # broken images by name
CHUNK = 64  # images that are written together


@dataclass(frozen=True)
class DecodedImages:
    """Images that were decoded: their pixels in the cache, and their labels."""

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

    @functools.cached_property
    def _sha256(self) -> str:
        """Kept with the pixels, so that these are read once at each start, to check their chunks."""
        path = _name_summary(self.array)
        with contextlib.suppress(OSError, ValueError):
            (kept,) = load_npz(path, ["sha256"])
            return kept.tobytes().hex()
        sha256 = start_hash((len(self), *self.shape))
        for images in iterate_images(self):
            sha256.update(images.tobytes())
        with contextlib.suppress(OSError), replace_atomically(path) as unfinished:
            np.savez(unfinished, sha256=np.frombuffer(sha256.digest(), np.uint8))
        return sha256.hexdigest()


def _name_summary(array: ChunkedArray) -> Path:
    return array.file.with_name(f"{array.file.name}.npz")


def load_decoded(
    files: Sequence[ImageFile],
    labels: Labels,
    name: str,
    preparation: Preparation,
    options: DataOptions,
    *,
    source: str,
) -> DecodedImages:
    """Images from the cache; those that are missing there or damaged are decoded, several at once.

    Args:
        files: With the images.
        labels: Labels of the images.
        name: In the cache, unique to these images.
        preparation: How the images are prepared.
        options: With the folder of the cache and its limit.
        source: The folder or table of the files, for messages.

    Raises:
        DataError: Some images cannot be read, or the cache cannot be written.
    """
    file = options.cache / PREPARED.folder / f"{name}.npy"
    array = ChunkedArray(file, (len(files), preparation.size, preparation.size), "|u1", CHUNK)
    images = DecodedImages(array, labels)
    if array.find_missing():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with wait_for_lock(file.with_name(f".{file.name}.lock"), "it decodes the same images"):
                _decode_missing(array, files, preparation, source)
        except OSError as error:
            raise DataError(
                f"{file}: the cache must take the decoded images. Received: {error}. "
                "Free some space there, or name another folder with PNEUMO_KERAS_CACHE."
            ) from error
        PREPARED.shrink(options.cache, options.cache_limit)
    mark_used(file)
    _ = images.pixels
    return images


def _decode_missing(
    array: ChunkedArray, files: Sequence[ImageFile], preparation: Preparation, source: str
) -> None:
    array.allocate()
    missing = array.find_missing()
    if not missing:  # another process decoded them
        return
    remove(_name_summary(array))
    rest = [files[row] for chunk in missing for row in array.get_rows(chunk)]
    broken: list[tuple[str, str]] = []  # name, reason
    notes: defaultdict[str, list[str]] = defaultdict(list)  # the names of files by how they were read
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
    for note, names in itertools.islice(notes.items(), SHOWN):
        log.warning("%s, first %s: %s", to_amount(len(names), "file"), names[0], note)
    if not broken:
        return
    remove(array.file)
    for name, reason in broken[:SHOWN]:  # so that all can be repaired before the images are decoded again
        log.warning("%s cannot be read: %s", name, reason)
    if len(broken) > SHOWN:
        log.warning("%s more cannot be read", f"{len(broken) - SHOWN:,}")
    name, reason = broken[0]
    raise DataError(
        f"{source}: every image must be one that can be read. Received: {len(broken):,} of {len(files):,} "
        f"that cannot, first {name}: {reason}. Repair or remove them."
    )
