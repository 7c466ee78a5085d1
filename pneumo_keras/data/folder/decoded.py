"""Films decoded once, and kept row by row until they are prepared: who was cut off goes on there."""

import contextlib
import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.decoding import DecodedFilm, decode_films
from pneumo_keras.data.folder.film_file import FilmFile
from pneumo_keras.errors import DataError
from pneumo_keras.files import write_whole
from pneumo_keras.progress import show_progress

log = logging.getLogger("pneumo_keras")

SHOWN = 20  # broken films by name
AT_ONCE = 64  # films that are written together
PIXELS = "films.npy"
NOTE = "decoded.json"
DAMAGE = (KeyError, TypeError, ValueError)  # of a note that was cut off or written by others


@dataclass(frozen=True)
class Note:
    """How far the decoding came.

    Attributes:
        films: Whose pixels are there for good.
        broken: Those among them that could not be read, each with its reason.
    """

    films: int
    broken: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DecodedSplit:
    """Films of a split in a folder of their own, until they are prepared.

    `films.npy` (n, size, size) has its final size from the start; `decoded.json` is its note.

    Attributes:
        folder: Where they are kept.
        split: Its name.
        labels: Of all films.
        size: Height and width in pixels.
    """

    folder: Path
    split: str
    labels: Labels
    size: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size

    def iterate(self) -> Iterator[Images]:
        """All films in their order, some at a time."""
        pixels = np.load(self.folder / PIXELS, mmap_mode="r")
        for start in range(0, len(self), AT_ONCE):
            yield pixels[start : start + AT_ONCE]

    def start(self) -> Note:
        """How far an earlier attempt came; makes room for all films where there was none."""
        try:
            note = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
            if (self.folder / PIXELS).stat().st_size > len(self) * self.size**2:
                return Note(int(note["films"]), tuple((str(a), str(b)) for a, b in note["broken"]))
        except (FileNotFoundError, *DAMAGE):
            pass
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        shape = (len(self), *self.shape)
        np.lib.format.open_memmap(self.folder / PIXELS, mode="w+", dtype=np.uint8, shape=shape).flush()
        return Note(0, ())

    def add(self, note: Note, films: Sequence[DecodedFilm], names: Sequence[str]) -> Note:
        """Writes the next films, then counts them. A film that cannot be read has black pixels."""
        black = np.zeros(self.shape, np.uint8)
        pixels = np.stack([black if film.image is None else film.image for film in films])
        with (self.folder / PIXELS).open("r+b") as file:  # a full disk is an error here, not a crash
            header = os.fstat(file.fileno()).st_size - len(self) * self.size**2
            file.seek(header + note.films * self.size**2)
            file.write(pixels.tobytes())
            file.flush()
            os.fsync(file.fileno())
        broken = [(name, one.reason) for name, one in zip(names, films, strict=True) if one.image is None]
        note = Note(note.films + len(films), (*note.broken, *broken))
        write_whole(self.folder / NOTE, json.dumps(vars(note)))
        return note


@contextlib.contextmanager
def decode_split(
    files: Sequence[FilmFile], labels: Labels, split: str, folder: Path, *, size: int, place: str
) -> Iterator[DecodedSplit]:
    """Films decoded side by side, or what an earlier attempt left of that.

    Args:
        files: With the films.
        labels: Of the films.
        split: Its name.
        folder: Where they are kept until the block ends well.
        size: Height and width wanted, in pixels.
        place: Where they come from, for the message.

    Raises:
        DataError: Some films cannot be read.
        OSError: `folder` cannot be written.
    """
    films = DecodedSplit(folder, split, labels, size)
    broken = _decode_rest(films, files).broken
    if broken:
        shutil.rmtree(folder)
        _warn_of_broken(broken)
        name, reason = broken[0]
        raise DataError(
            f"{place}: every film must be one that can be read. Received: {len(broken):,} of {len(films):,} "
            f"that cannot, first {name}: {reason}. Mend them or take them away."
        )
    yield films
    shutil.rmtree(folder)


def _warn_of_broken(broken: Sequence[tuple[str, str]]) -> None:
    """Names them, so that all can be mended before the films are decoded again."""
    for name, reason in broken[:SHOWN]:
        log.warning("%s cannot be read: %s", name, reason)
    if len(broken) > SHOWN:
        log.warning("%s more cannot be read", f"{len(broken) - SHOWN:,}")


def _decode_rest(films: DecodedSplit, files: Sequence[FilmFile]) -> Note:
    note = films.start()
    rest = files[note.films :]
    if not rest:
        return note
    with (
        contextlib.closing(decode_films((str(file.path) for file in rest), size=films.size)) as decoded,
        show_progress(f"Decoding the {films.split} films", len(films), "films", done=note.films) as progress,
    ):
        while batch := list(itertools.islice(decoded, AT_ONCE)):
            names = [file.name for file in files[note.films : note.films + len(batch)]]
            note = films.add(note, batch, names)
            progress.advance(len(batch))
    return note
