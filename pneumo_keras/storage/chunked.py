"""Arrays on disk that are written chunk by chunk, each with a checksum: damage is found, the rest stays.

The checksum is zlib's CRC-32: 2 GB/s here, twice as fast as SHA-256, and a chunk that changed passes once
in four thousand million times. It is no seal against forgers, who could as well train a model of their own.
"""

import io
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped, UInt32

CHECKSUM = np.dtype("<u4")


@dataclass(frozen=True)
class ChunkedArray:
    """An ordinary `.npy` file that has its final size from the start, and its checksums beside it.

    Nothing in the files is believed: they are as they must be to the byte, or the chunk is missing.

    Attributes:
        file: Where the array lies.
        shape: Of the array.
        dtype: Of its numbers, as NumPy writes it in a file: "<f4".
        at_once: Rows of a chunk.
        address: What tells this array from others: part of every checksum, so that no chunk passes in
            another array or at another place.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str
    at_once: int
    address: str

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return -(-self.shape[0] // self.at_once)

    @property
    def size(self) -> int:
        """Of all numbers, in bytes."""
        return self.shape[0] * self._row

    def get_rows(self, chunk: int) -> range:
        """The rows of a chunk."""
        start = chunk * self.at_once
        return range(start, min(start + self.at_once, self.shape[0]))

    def list_written(self) -> list[int]:
        """Chunks that were written once, by their checksums alone."""
        return np.flatnonzero(self._load_checksums()).tolist()

    def find_missing(self) -> list[int]:
        """Chunks that are not there: never written, or damaged since. Reads everything."""
        noted = self._load_checksums().tolist()
        try:
            with _open_regular(self.file) as file:
                whole = os.fstat(file.fileno()).st_size == len(self._header) + self.size
                if whole and file.read(len(self._header)) == self._header:
                    return [
                        chunk
                        for chunk in range(self.count)
                        if not noted[chunk] or self._sum(chunk, self._read(file, chunk)) != noted[chunk]
                    ]
        except OSError:
            pass
        return list(range(self.count))

    def make_room(self) -> None:
        """Makes the files or mends what stands around the chunks. The chunks themselves stay.

        Raises:
            OSError: They cannot be written.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        _mend(self.file, self._header, len(self._header) + self.size)
        _mend(self._checksums, b"", self.count * CHECKSUM.itemsize)

    def write(self, chunk: int, rows: Shaped[np.ndarray, "..."]) -> None:
        """Writes a chunk, then its checksum. There must be room.

        Raises:
            OSError: They cannot be written.
        """
        content = np.ascontiguousarray(rows, self.dtype).tobytes()
        with self.file.open("r+b") as file:
            file.seek(len(self._header) + self._row * self.get_rows(chunk).start)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with self._checksums.open("r+b") as file:
            file.seek(chunk * CHECKSUM.itemsize)
            file.write(np.array(self._sum(chunk, content), CHECKSUM).tobytes())

    def open(self) -> Any:
        """The array, mapped: what is looked at is read."""
        return np.load(self.file, mmap_mode="r")

    @cached_property
    def _header(self) -> bytes:
        return to_header(self.shape, self.dtype)

    @property
    def _checksums(self) -> Path:
        return self.file.with_suffix(".crc32")

    @property
    def _row(self) -> int:
        return int(np.prod(self.shape[1:], dtype=int)) * np.dtype(self.dtype).itemsize

    def _read(self, file: BinaryIO, chunk: int) -> bytes:
        rows = self.get_rows(chunk)
        return os.pread(file.fileno(), self._row * len(rows), len(self._header) + self._row * rows.start)

    def _sum(self, chunk: int, content: bytes) -> int:
        """Never 0, which stands for none."""
        return zlib.crc32(content, zlib.crc32(f"{self.address} {chunk}".encode())) or 1

    def _load_checksums(self) -> UInt32[np.ndarray, " chunks"]:
        try:
            with _open_regular(self._checksums) as file:
                noted = np.frombuffer(file.read(self.count * CHECKSUM.itemsize), np.uint8)
        except OSError:
            noted = np.empty(0, np.uint8)
        whole = np.zeros(self.count * CHECKSUM.itemsize, np.uint8)
        whole[: len(noted)] = noted
        return whole.view(CHECKSUM)


def to_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """What stands before the numbers in a `.npy` file."""
    header = io.BytesIO()
    content = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, content)
    return header.getvalue()


@contextmanager
def _open_regular(path: Path) -> Iterator[BinaryIO]:
    """A file as such: a pipe would be waited for, a device be read without end.

    Raises:
        OSError: It is none, or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        yield file


def _mend(path: Path, head: bytes, size: int) -> None:
    """A file that begins with `head` and has this size; what lies there under its name and is none goes."""
    if not path.is_file():
        remove(path)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        if file.read(len(head)) != head:
            file.seek(0)
            file.write(head)
        file.truncate(size)


def remove(path: Path) -> bool:
    """Removes whatever has this name; whether it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)
