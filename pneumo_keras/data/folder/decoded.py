"""ImageSet decoded once, and kept row by row until they are prepared: who was cut off goes on there."""

import contextlib
import functools
import itertools
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.decoding import decode_images
from pneumo_keras.data.folder.image_file import ImageFile
from pneumo_keras.data.images import Preparation
from pneumo_keras.errors import DataError
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.chunked_array import ChunkedArray
from pneumo_keras.storage.files import remove
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

SHOWN = 20  # broken images by name
AT_ONCE = 64  # images that are written together
Broken = tuple[str, str]
"""The name of an image that cannot be read, and why."""


@dataclass(frozen=True)
class DecodedSplit:
    """Images of a split in a folder of their own, until they are prepared.

    Attributes:
        folder: Where they are kept.
        split: Its name.
        labels: Of all images.
        preparation: Of the images.
    """

    folder: Path
    split: str
    labels: Labels
    preparation: Preparation

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.preparation.size, self.preparation.size

    @functools.cached_property
    def array(self) -> ChunkedArray:
        """Their pixels; chunks with an image that cannot be read stay missing."""
        shape = (len(self), *self.shape)
        return ChunkedArray(self.folder / "images.npy", shape, "|u1", AT_ONCE)

    def iterate(self) -> Iterator[Images]:
        """All images in their order, some at a time."""
        pixels = self.array.open()
        for start in range(0, len(self), AT_ONCE):
            yield pixels[start : start + AT_ONCE]


@contextlib.contextmanager
def decode_split(
    files: Sequence[ImageFile],
    labels: Labels,
    split: str,
    folder: Path,
    *,
    preparation: Preparation,
    place: str,
) -> Iterator[DecodedSplit]:
    """ImageSet decoded side by side, or what an earlier attempt left of that.

    Args:
        files: With the images.
        labels: Of the images.
        split: Its name.
        folder: Where they are kept until the block ends well.
        preparation: Wanted.
        place: Where they come from, for the message.

    Raises:
        DataError: Some images cannot be read.
        OSError: `folder` cannot be written.
    """
    images = DecodedSplit(folder, split, labels, preparation)
    broken = _decode_rest(images, files)
    if broken:
        remove(folder)
        _warn_of_broken(broken)
        name, reason = broken[0]
        raise DataError(
            f"{place}: every image must be one that can be read. Received: {len(broken):,} of {len(images):,} "
            f"that cannot, first {name}: {reason}. Mend them or take them away."
        )
    yield images
    remove(folder)


def _warn_of_broken(broken: Sequence[Broken]) -> None:
    """Names them, so that all can be mended before the images are decoded again."""
    for name, reason in broken[:SHOWN]:
        log.warning("%s cannot be read: %s", name, reason)
    if len(broken) > SHOWN:
        log.warning("%s more cannot be read", f"{len(broken) - SHOWN:,}")


def _warn_of_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """Says how files that contradict themselves were read; to each note the names of its files."""
    for note, names in itertools.islice(notes.items(), SHOWN):
        log.warning("%s, first %s: %s", to_amount(len(names), "file"), names[0], note)


def _decode_rest(source: DecodedSplit, files: Sequence[ImageFile]) -> list[Broken]:
    """Decodes what is not there yet, or damaged.

    Returns:
        Images that cannot be read.
    """
    if not source.folder.is_dir():
        remove(source.folder)
    source.array.allocate()
    missing = source.array.find_missing()
    rest = [files[row] for chunk in missing for row in source.array.get_rows(chunk)]
    broken: list[Broken] = []
    notes: defaultdict[str, list[str]] = defaultdict(list)
    if not rest:
        return broken
    done = len(source) - len(rest)
    with (
        contextlib.closing(
            decode_images((str(file.path) for file in rest), preparation=source.preparation)
        ) as decoded,
        show_progress(f"Decoding the {source.split} images", len(source), "images", done=done) as progress,
    ):
        for chunk in missing:
            rows = source.array.get_rows(chunk)
            found = list(itertools.islice(decoded, len(rows)))
            images = [image.image for image in found if image.image is not None]
            if len(images) == len(rows):
                source.array.write(chunk, np.stack(images))
            for row, image in zip(rows, found, strict=True):
                if image.note:
                    notes[image.note].append(files[row].name)
            broken += [
                (files[row].name, image.reason)
                for row, image in zip(rows, found, strict=True)
                if image.image is None
            ]
            progress.advance(len(rows))
    _warn_of_notes(notes)
    return broken
