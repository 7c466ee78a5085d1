"""Zip archives that nobody vouches for: what they declare is checked before anything is unpacked."""

import contextlib
import io
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pneumo_keras.storage.ordinary_files import open_ordinary

MOST_BYTES = 1 << 36  # of an archive, packed or unpacked: 1.3 million images of 224 px
FREE_BYTES = 1 << 30  # that every archive may unpack to
RATIO = 100  # to which larger ones may be packed; images are packed to a half or a third
LISTING_BYTES = 1 << 20  # of the list of members, at the end of the file; ours take less than a thousand
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
REASON = 300  # characters; zipfile quotes names of members, which may be very long
ENCRYPTED = 0x1  # of a member's flags
# What zipfile raises on damaged archives beside ValueError; each was met while damaging one at random.
DAMAGED = (
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


class _CautiousReader(io.BufferedReader):
    """Gives no more at once than a list of members takes, as long as that is what is read."""

    listing = True

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.listing:
            return super().read(size)
        if size is not None and size > LISTING_BYTES:
            raise ValueError("it lists more members than are ever read")
        return super().read(LISTING_BYTES if size is None or size < 0 else size)


@contextlib.contextmanager
def open_zip(path: Path, *, most: int = MOST_BYTES) -> Iterator[zipfile.ZipFile]:
    """Opens an archive whose members are each there once, plainly packed, and together not too large.

    Whatever zipfile finds wrong while it is open is one kind of error: it has a dozen.

    Args:
        path: Of the archive.
        most: Bytes that it may have, packed and unpacked.

    Raises:
        OSError: It is missing, no ordinary file, larger, or cannot be read.
        ValueError: It is no such archive, or damaged where it was read. One line.
    """
    with open_ordinary(path, most=most) as file, _CautiousReader(file.raw) as reader:
        size = os.fstat(file.fileno()).st_size
        try:
            if not zipfile.is_zipfile(reader):
                raise ValueError("it is no zip archive, or a part of one")
            with zipfile.ZipFile(reader) as archive:
                _check_members(archive, size, most)
                reader.listing = False
                yield archive
        except DAMAGED as error:
            raise ValueError(" ".join(str(error).split()).rstrip(".")[:REASON]) from error


def _check_members(archive: zipfile.ZipFile, size: int, most: int) -> None:
    members = archive.infolist()
    twice = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
    if twice:
        raise ValueError(f"it holds '{twice[0]}' more than once")
    for member in members:
        if member.compress_type not in PACKINGS or member.flag_bits & ENCRYPTED:
            raise ValueError(f"'{member.filename}' is encrypted, or packed otherwise than by deflate")
    unpacked = sum(member.file_size for member in members)
    if unpacked > most or unpacked > max(FREE_BYTES, RATIO * size):
        raise ValueError(f"it would unpack to {unpacked:,} bytes")
