"""Arrays on disk that are written chunk by chunk, each with a checksum: a damaged chunk is found.

The checksum is zlib's CRC-32: 2 GB/s, twice as fast as SHA-256, and a damaged chunk is missed once in four
billion times. It is not tamper-proof.
"""

import io
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt32

from pneumo_keras.storage.bounded_reading import open_ordinary
from pneumo_keras.storage.files import replace_atomically

CHECKSUM = np.dtype("<u4")


@dataclass(frozen=True)
class ChunkedArray:
    """An ordinary `.npy` file that has its final size from the start, with checksums behind the numbers.

    Several processes may write the same content at once. A chunk that was never written has checksum 0.

    Attributes:
        file: Path of the file.
        shape: Shape of the array.
        dtype: As NumPy writes it in a file: "<f4".
        chunk_rows: Rows of a chunk.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str
    chunk_rows: int

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.shape[0] // self.chunk_rows)

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self._end + self.count * CHECKSUM.itemsize

    def get_rows(self, chunk: int) -> range:
        """The rows of a chunk."""
        start = chunk * self.chunk_rows
        return range(start, min(start + self.chunk_rows, self.shape[0]))

    def allocate(self) -> None:
        """Makes the file, unless one of this shape is there already, whose chunks stay."""
        if self._load_checksums() is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(self.file) as new:
                new.write_bytes(self._header)
                os.truncate(new, self.size)

    def write(self, chunk: int, rows: Shaped[np.ndarray, "..."]) -> None:
        """Writes a chunk of an allocated array, then its checksum."""
        content = np.ascontiguousarray(rows, self.dtype).tobytes()
        with self.file.open("r+b") as file:
            file.seek(self._offset(chunk))
            file.write(content)
            file.flush()
            file.seek(self._end + chunk * CHECKSUM.itemsize)
            file.write(np.array(_compute_checksum(chunk, content), CHECKSUM).tobytes())

    def list_written(self) -> list[int]:
        """Chunks that were written once; whether they are damaged is for `find_missing`."""
        checksums = self._load_checksums()
        return [] if checksums is None else np.flatnonzero(checksums).tolist()

    def count_done(self) -> int:
        """Rows of the chunks that were written once."""
        return sum(len(self.get_rows(chunk)) for chunk in self.list_written())

    def find_missing(self) -> list[int]:
        """Chunks that were never written, or damaged since. Reads everything."""
        checksums = self._load_checksums()
        intact = []
        if checksums is not None:
            with suppress(OSError), self.file.open("rb") as file:
                for chunk in np.flatnonzero(checksums).tolist():
                    file.seek(self._offset(chunk))
                    content = file.read(len(self.get_rows(chunk)) * self._row)
                    if checksums[chunk] == _compute_checksum(chunk, content):
                        intact.append(chunk)
        return sorted({*range(self.count)}.difference(intact))

    def open(self) -> Shaped[np.ndarray, "..."]:
        """The array, memory-mapped."""
        return np.load(self.file, mmap_mode="r")

    @cached_property
    def _header(self) -> bytes:
        header = io.BytesIO()
        content = {"descr": self.dtype, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(header, content)
        return header.getvalue()

    @property
    def _row(self) -> int:
        return int(np.prod(self.shape[1:], dtype=int)) * np.dtype(self.dtype).itemsize

    @property
    def _end(self) -> int:
        return len(self._header) + self.shape[0] * self._row

    def _offset(self, chunk: int) -> int:
        return len(self._header) + chunk * self.chunk_rows * self._row

    def _load_checksums(self) -> UInt32[np.ndarray, " chunks"] | None:
        """None where there is no such array."""
        try:
            with open_ordinary(self.file, most=self.size) as file:
                complete = os.fstat(file.fileno()).st_size == self.size
                if not complete or file.read(len(self._header)) != self._header:
                    return None
                file.seek(self._end)
                return np.frombuffer(file.read(), CHECKSUM)
        except OSError:
            return None


def _compute_checksum(chunk: int, content: bytes) -> int:
    """Depends on the chunk's number; never 0, which means never written."""
    return zlib.crc32(content, chunk) or 1
