"""Films decoded once, and kept row by row until they are prepared: who was cut off goes on there."""

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
from pneumo_keras.chunked import ChunkedArray, remove
from pneumo_keras.data.decoding import decode_films
from pneumo_keras.data.films import Preparation
from pneumo_keras.data.folder.film_file import FilmFile
from pneumo_keras.errors import DataError
from pneumo_keras.printable import to_amount
from pneumo_keras.progress import show_progress

log = logging.getLogger("pneumo_keras")

SHOWN = 20  # broken films by name
AT_ONCE = 64  # films that are written together
Broken = tuple[str, str]
"""The name of a film that cannot be read, and why."""


@dataclass(frozen=True)
class DecodedSplit:
    """Films of a split in a folder of their own, until they are prepared.

    Attributes:
        folder: Where they are kept.
        split: Its name.
        labels: Of all films.
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
        """Their pixels; chunks with a film that cannot be read stay missing."""
        shape = (len(self), *self.shape)
        return ChunkedArray(self.folder / "films.npy", shape, "|u1", AT_ONCE, self.folder.name)

    def iterate(self) -> Iterator[Images]:
        """All films in their order, some at a time."""
        pixels = self.array.open()
        for start in range(0, len(self), AT_ONCE):
            yield pixels[start : start + AT_ONCE]


@contextlib.contextmanager
def decode_split(
    files: Sequence[FilmFile],
    labels: Labels,
    split: str,
    folder: Path,
    *,
    preparation: Preparation,
    place: str,
) -> Iterator[DecodedSplit]:
    """Films decoded side by side, or what an earlier attempt left of that.

    Args:
        files: With the films.
        labels: Of the films.
        split: Its name.
        folder: Where they are kept until the block ends well.
        preparation: Wanted.
        place: Where they come from, for the message.

    Raises:
        DataError: Some films cannot be read.
        OSError: `folder` cannot be written.
    """
    films = DecodedSplit(folder, split, labels, preparation)
    broken = _decode_rest(films, files)
    if broken:
        remove(folder)
        _warn_of_broken(broken)
        name, reason = broken[0]
        raise DataError(
            f"{place}: every film must be one that can be read. Received: {len(broken):,} of {len(films):,} "
            f"that cannot, first {name}: {reason}. Mend them or take them away."
        )
    yield films
    remove(folder)


def _warn_of_broken(broken: Sequence[Broken]) -> None:
    """Names them, so that all can be mended before the films are decoded again."""
    for name, reason in broken[:SHOWN]:
        log.warning("%s cannot be read: %s", name, reason)
    if len(broken) > SHOWN:
        log.warning("%s more cannot be read", f"{len(broken) - SHOWN:,}")


def _warn_of_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """Says how files that contradict themselves were read; to each note the names of its files."""
    for note, names in itertools.islice(notes.items(), SHOWN):
        log.warning("%s, first %s: %s", to_amount(len(names), "file"), names[0], note)


def _decode_rest(films: DecodedSplit, files: Sequence[FilmFile]) -> list[Broken]:
    """Decodes what is not there yet, or damaged.

    Returns:
        Films that cannot be read.
    """
    if not films.folder.is_dir():
        remove(films.folder)
    films.array.make_room()
    missing = films.array.find_missing()
    rest = [files[row] for chunk in missing for row in films.array.get_rows(chunk)]
    broken: list[Broken] = []
    notes: defaultdict[str, list[str]] = defaultdict(list)
    if not rest:
        return broken
    done = len(films) - len(rest)
    with (
        contextlib.closing(
            decode_films((str(file.path) for file in rest), preparation=films.preparation)
        ) as decoded,
        show_progress(f"Decoding the {films.split} films", len(films), "films", done=done) as progress,
    ):
        for chunk in missing:
            rows = films.array.get_rows(chunk)
            found = list(itertools.islice(decoded, len(rows)))
            images = [film.image for film in found if film.image is not None]
            if len(images) == len(rows):
                films.array.write(chunk, np.stack(images))
            for row, film in zip(rows, found, strict=True):
                if film.note:
                    notes[film.note].append(files[row].name)
            broken += [
                (files[row].name, film.reason)
                for row, film in zip(rows, found, strict=True)
                if film.image is None
            ]
            progress.advance(len(rows))
    _warn_of_notes(notes)
    return broken
