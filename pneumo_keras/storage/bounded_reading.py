"""Files of any origin: what they declare is checked before it is read, unpacked or built.

Opening a pipe may wait forever, a device never ends, and a file of a few bytes may declare terabytes.
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

TEXT_BYTES = 1 << 22  # of a text: a thousand times what the settings of a run take
ARRAY_BYTES = 1 << 28  # of arrays that are read completely
ARCHIVE_BYTES = 1 << 36  # of a zip archive, packed or unpacked: 1.3 million images of 224 px
FREE_BYTES = 1 << 30  # that every archive may unpack to
RATIO = 100  # to which larger ones may be packed; images are packed to a half or a third
REASON = 200  # characters of a message that quotes the file
# What zipfile raises on damaged archives besides ValueError.
DAMAGED = EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error


def open_ordinary(path: Path, *, most: int) -> io.BufferedReader:
    """Opens an ordinary file of at most this many bytes to read them.

    Raises:
        OSError: It is missing, not an ordinary file, larger, or cannot be read.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a path with a null in it
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))
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
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_ordinary(path, most=most).decode("utf-8")


@contextlib.contextmanager
def open_zip(path: Path, *, most: int = ARCHIVE_BYTES) -> Iterator[zipfile.ZipFile]:
    """Opens an archive of at most this many bytes, packed and unpacked, without two members of one name.

    Raises:
        OSError: It is missing, not an ordinary file, larger, or cannot be read.
        ValueError: It is not such an archive, or damaged where it was read in the block. One line.
    """
    with open_ordinary(path, most=most) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _check_members(archive, os.fstat(file.fileno()).st_size, most)
                yield archive
        except DAMAGED as error:
            raise ValueError(_to_reason(error)) from error


def _check_members(archive: zipfile.ZipFile, size: int, most: int) -> None:
    for name, count in Counter(archive.namelist()).items():
        if count > 1:
            raise ValueError(f"it holds '{name}' more than once")
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > most or unpacked > max(FREE_BYTES, RATIO * size):
        raise ValueError(f"it would unpack to {unpacked:,} bytes")


def load_npz(path: Path, names: Sequence[str]) -> list[Shaped[np.ndarray, "..."]]:
    """These arrays of a small npz file, never from pickles; zip has a checksum of each.

    Raises:
        OSError: It is missing, not an ordinary file, larger, or cannot be read.
        ValueError: It is damaged, or an array is missing. One line.
    """
    with open_zip(path, most=ARRAY_BYTES) as archive:
        arrays = []
        for name in names:
            with open_member(archive, name) as (file, header):
                order: Any = "F" if header.is_fortran else "C"
                array = np.frombuffer(file.read(), header.dtype).reshape(header.shape, order=order)
                arrays.append(array.astype(header.dtype.newbyteorder("=")))
        return arrays


@dataclass(frozen=True)
class Header:
    """What an array of a file declares to be."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype


@contextlib.contextmanager
def open_member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[io.BufferedIOBase, Header]]:
    """An array of an npz file behind its header.

    Raises:
        ValueError: It is not a plain array of numbers, or declares another size than it has.
    """
    opened: Any = archive.open(f"{name}.npy")
    with opened as file:
        header = _read_header(file, f"{name}.npy")
        declared = math.prod(header.shape) * header.dtype.itemsize
        found = archive.getinfo(f"{name}.npy").file_size - file.tell()
        if declared != found:
            # Python writes no number of 5,000 digits.
            amount = f"{declared:,}" if declared < 10**30 else "more than 10^30"
            raise ValueError(f"{name}.npy declares {amount} bytes and holds {found:,}")
        yield file, header


def _read_header(file: io.BufferedIOBase, name: str) -> Header:
    try:
        is_first = np.lib.format.read_magic(file) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        header = Header(*read(file))
    except OSError:
        raise
    except Exception as error:  # NumPy evaluates a Python literal, which fails in as many ways as there are
        raise ValueError(f"{name} is not a plain array: {_to_reason(error)}") from error
    if header.dtype.kind not in "biuf" or header.dtype.shape or min(header.shape, default=0) < 0:
        raise ValueError(f"{name} must be a plain array of numbers")
    return header


def _to_reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:REASON] or type(error).__name__
