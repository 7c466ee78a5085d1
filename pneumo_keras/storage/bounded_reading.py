"""Files from anywhere: what they declare is checked before it is read, unpacked or built.

A pipe would be waited for without end, a device never ends, and a file of a few bytes may declare terabytes.
"""

import contextlib
import errno
import io
import math
import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

Array = Shaped[np.ndarray, "..."]

TEXT_BYTES = 1 << 22  # of a text: a thousand times what the settings of a run take
ARRAY_BYTES = 1 << 28  # of arrays that are read whole
ARCHIVE_BYTES = 1 << 36  # of a zip archive, packed or unpacked: 1.3 million images of 224 px
FREE_BYTES = 1 << 30  # that every archive may unpack to
RATIO = 100  # to which larger ones may be packed; images are packed to a half or a third
LISTING_BYTES = 1 << 20  # of the list of members at the end of an archive; ours take less than a thousand
REASON = 200  # characters of a message that quotes the file
# What zipfile raises on damaged archives beside ValueError.
DAMAGED = EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error
HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def open_ordinary(path: Path, *, most: int) -> io.BufferedReader:
    """Opens an ordinary file of at most this many bytes to read them.

    Raises:
        OSError: It is missing, no ordinary file, larger, or cannot be read.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe waits for somebody who writes.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a path with a null in it
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
        if found.st_size > most:
            rule = f"it has {found.st_size:,} bytes, and at most {most:,} are read"
            raise OSError(errno.EFBIG, rule, str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_ordinary(path: Path, *, most: int) -> bytes:
    """All bytes of a file; see `open_ordinary`."""
    with open_ordinary(path, most=most) as file:
        return file.read(most)


def read_text(path: Path, *, most: int = TEXT_BYTES) -> str:
    """A text in UTF-8, line ends as they are; see `open_ordinary`.

    Raises:
        UnicodeDecodeError: It is no UTF-8.
    """
    return read_ordinary(path, most=most).decode("utf-8")


class _CautiousReader(io.BufferedReader):
    """Reads no more at once than a list of members takes, as long as that is what is read."""

    listing = True

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.listing:
            return super().read(size)
        if size is not None and size > LISTING_BYTES:
            raise ValueError("it lists more members than are ever read")
        return super().read(LISTING_BYTES if size is None or size < 0 else size)


@contextlib.contextmanager
def open_zip(path: Path, *, most: int = ARCHIVE_BYTES) -> Iterator[zipfile.ZipFile]:
    """Opens an archive whose members are each there once, plainly packed, and together not too large.

    Args:
        path: Of the archive.
        most: Bytes that it may have, packed and unpacked.

    Raises:
        OSError: It is missing, no ordinary file, larger, or cannot be read.
        ValueError: It is no such archive, or damaged where it was read in the block. One line.
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
            raise ValueError(_to_reason(error)) from error


def _check_members(archive: zipfile.ZipFile, size: int, most: int) -> None:
    members = archive.infolist()
    twice = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
    if twice:
        raise ValueError(f"it holds '{twice[0]}' more than once")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"'{member.filename}' is packed otherwise than by deflate")
    unpacked = sum(member.file_size for member in members)
    if unpacked > most or unpacked > max(FREE_BYTES, RATIO * size):
        raise ValueError(f"it would unpack to {unpacked:,} bytes")


@dataclass(frozen=True)
class Header:
    """What an array of a file declares to be."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype

    @property
    def n_bytes(self) -> int:
        """Of all its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def load_npz(path: Path, names: Sequence[str], *, most: int = ARRAY_BYTES) -> list[Array]:
    """Arrays of numbers from an npz file that holds these and no others; zip has a checksum of each.

    Args:
        path: Of the file.
        names: Of the arrays.
        most: Bytes of the file, packed and unpacked.

    Raises:
        OSError: It is missing, no ordinary file, larger, or cannot be read.
        ValueError: It is damaged, or holds something else. One line.
    """
    with open_zip(path, most=most) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        if sorted(held) != sorted(names):
            raise ValueError(f"it must hold {', '.join(names)} and holds {', '.join(held[:9]) or 'nothing'}")
        arrays = []
        for name in names:
            with open_member(archive, name) as (file, header):
                arrays.append(to_array(file.read(), header))
        return arrays


@contextlib.contextmanager
def open_member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[io.BufferedIOBase, Header]]:
    """An array of an npz file behind its header.

    Raises:
        ValueError: It is no plain array, or declares another size than it has.
    """
    opened: Any = archive.open(f"{name}.npy")
    with opened as file:
        yield file, _read_header(file, archive.getinfo(f"{name}.npy").file_size, f"{name}.npy")


def to_array(data: bytes, header: Header) -> Array:
    """The numbers behind a header, in this machine's byte order.

    Raises:
        ValueError: They are too few.
    """
    order: Any = "F" if header.is_fortran else "C"
    array = np.frombuffer(data, header.dtype).reshape(header.shape, order=order)
    return array.astype(header.dtype.newbyteorder("="))


def _read_header(file: io.BufferedIOBase, size: int, name: str) -> Header:
    """Reads what stands before the numbers of an array, and checks it against the size of the file."""
    header = _parse_header(file, name)
    if header.dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never loaded")
    if header.dtype.kind not in "biuf" or header.dtype.shape or min(header.shape, default=0) < 0:
        raise ValueError(f"{name} must be a plain array of numbers")
    held = size - file.tell()
    if header.n_bytes != held:
        # Python writes no number of 5,000 digits.
        declared = f"{header.n_bytes:,}" if header.n_bytes < 10**30 else "more than 10^30"
        raise ValueError(f"{name} declares {declared} bytes and holds {held:,}")
    return header


def _parse_header(file: io.BufferedIOBase, name: str) -> Header:
    """NumPy evaluates the header as a Python literal, which fails in as many ways as there are literals."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in HEADER_READERS:
            raise ValueError(f"version {version} of the format is unknown")
        return Header(*HEADER_READERS[version](file))
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:
        raise ValueError(f"{name} is no plain array: {_to_reason(error)}") from error


def _to_reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:REASON] or type(error).__name__
