"""Parts: the features of an entry in runs of chunks, each an object that speaks for itself.

A part is an ordinary `.npy` file with a seal behind it: SHA-256 of the entry's name, the number of the
part and all bytes before. It is as it must be to the byte, or it is damaged. Like the checksums of a cache it
is no seal against forgers, who could as well train a model of their own.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pneumo_keras.arrays import Features
from pneumo_keras.features.entry import CHUNK, Entry
from pneumo_keras.storage.chunked import to_header

CHUNKS = 64  # of a part: 2,048 images, 16 MB of the widest feature layer
SEAL = hashlib.sha256().digest_size
NUMBERS = np.dtype("<f4")


@dataclass(frozen=True)
class Part:
    """A run of chunks of an entry.

    Attributes:
        entry: Whose features they are.
        number: From 0.
    """

    entry: Entry
    number: int

    @property
    def name(self) -> str:
        """Of the object, within the entry's folder."""
        return f"part-{self.number:06d}.npy"

    @property
    def chunks(self) -> range:
        """Numbers of the chunks."""
        first = self.number * CHUNKS
        return range(first, min(first + CHUNKS, self.entry.array.count))

    @property
    def rows(self) -> range:
        """Numbers of the images."""
        first, n = self.number * CHUNKS * CHUNK, self.entry.shape[0]
        return range(first, min(first + CHUNKS * CHUNK, n))

    @property
    def size(self) -> int:
        """Of the object, in bytes."""
        return len(self._header) + len(self.rows) * self.entry.shape[1] * NUMBERS.itemsize + SEAL

    def check_size(self, size: int) -> None:
        """Checks the bytes of an object before it is read.

        Raises:
            ValueError: They are others than those of this part. One line.
        """
        if size != self.size:
            raise ValueError(f"it has {size:,} bytes and not {self.size:,}")

    def encode(self, features: Features) -> bytes:
        """The object."""
        content = self._header + np.ascontiguousarray(features, NUMBERS).tobytes()
        return content + self._seal(memoryview(content))

    def decode(self, content: bytes) -> Features:
        """The features of the images.

        Raises:
            ValueError: The object is damaged, or another one. One line.
        """
        self.check_size(len(content))
        if content[-SEAL:] != self._seal(memoryview(content)[:-SEAL]) or not content.startswith(self._header):
            raise ValueError("its checksum is another")
        shape = (len(self.rows), self.entry.shape[1])
        features = np.frombuffer(content[len(self._header) : -SEAL], NUMBERS).reshape(shape)
        if not np.isfinite(features).all():
            raise ValueError("not all of it are finite numbers")
        return features.astype(np.float32, copy=False)

    def split(self, features: Features) -> Iterable[tuple[int, Features]]:
        """The numbers of the chunks, each with its features."""
        return zip(self.chunks, np.split(features, range(CHUNK, len(features), CHUNK)), strict=True)

    @property
    def _header(self) -> bytes:
        return to_header((len(self.rows), self.entry.shape[1]), NUMBERS.str)

    def _seal(self, content: memoryview) -> bytes:
        digest = hashlib.sha256(f"{self.entry.name} {self.number} ".encode())
        digest.update(content)
        return digest.digest()


def list_parts(entry: Entry) -> list[Part]:
    """All parts of an entry."""
    return [Part(entry, number) for number in range(-(-entry.array.count // CHUNKS))]
