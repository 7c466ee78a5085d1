"""NumPy's files that nobody vouches for: no pickles, and no byte is read before its array was looked at."""

import contextlib
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pneumo_keras.storage.archives import open_zip
from pneumo_keras.storage.ordinary_files import open_ordinary

Array = Shaped[np.ndarray, "..."]

HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
MOST_BYTES = 1 << 28  # of arrays that are read whole
PLAIN = "biuf"  # kinds of numbers


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


def load_npz(path: Path, names: Sequence[str], *, most: int = MOST_BYTES) -> list[Array]:
    """Arrays of numbers from an npz file that holds these and no others.

    Args:
        path: Of the file.
        names: Of the arrays.
        most: Bytes that the file may have, packed and unpacked.

    Raises:
        OSError: It is missing, no ordinary file, larger, or cannot be read.
        ValueError: It is damaged, or holds something else. One line.
    """
    with open_zip(path, most=most) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        if sorted(held) != sorted(names):
            raise ValueError(f"it must hold {', '.join(names)} and holds {', '.join(held[:9]) or 'nothing'}")
        return [load_member(archive, name) for name in names]


def load_npy(path: Path, *, most: int = MOST_BYTES) -> Array:
    """The array of numbers of an npy file.

    Args:
        path: Of the file.
        most: Bytes that it may have.

    Raises:
        OSError: It is missing, no ordinary file, larger, or cannot be read.
        ValueError: It is damaged. One line.
    """
    with open_ordinary(path, most=most) as file:
        header = read_header(file, os.fstat(file.fileno()).st_size, path.name)
        return to_array(file.read(header.n_bytes), header)


@contextlib.contextmanager
def open_member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[io.BufferedIOBase, Header]]:
    """An array of an npz file behind its header.

    Raises:
        ValueError: It is no plain array, or declares another size than it has.
    """
    opened: Any = archive.open(f"{name}.npy")
    with opened as file:
        yield file, read_header(file, archive.getinfo(f"{name}.npy").file_size, f"{name}.npy")


def read_header(file: io.BufferedIOBase, size: int, name: str) -> Header:
    """Reads what stands before the numbers of an array, and checks it against the size of all.

    Args:
        file: At its beginning; stands at the first number afterwards.
        size: Bytes that it has.
        name: For the message.

    Raises:
        ValueError: It is no plain array, or declares another size than it has.
    """
    header = _parse_header(file, name)
    if header.dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never loaded")
    if header.dtype.kind not in PLAIN or header.dtype.shape or min(header.shape, default=0) < 0:
        raise ValueError(f"{name} must be a plain array of numbers")
    held = size - file.tell()
    if header.n_bytes != held:
        raise ValueError(f"{name} declares {to_count(header.n_bytes)} bytes and holds {held:,}")
    return header


def to_array(data: bytes, header: Header) -> Array:
    """The numbers behind a header, in this machine's byte order.

    Raises:
        ValueError: They are too few.
    """
    order: Any = "F" if header.is_fortran else "C"
    array = np.frombuffer(data, header.dtype).reshape(header.shape, order=order)
    return array.astype(header.dtype.newbyteorder("="))


def to_count(number: int) -> str:
    """A number as people read it, unless it is longer than a line: Python refuses 5,000 digits."""
    return f"{number:,}" if number < 10**30 else "more than 10^30"


def load_member(archive: zipfile.ZipFile, name: str) -> Array:
    """An array of an npz file; see `open_member`."""
    with open_member(archive, name) as (file, header):
        return to_array(file.read(), header)


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
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{name} is no plain array: {reason}") from error
