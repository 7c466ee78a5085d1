"""Images for actors, which import them from here."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_keras.errors import DataError


@dataclass(frozen=True)
class DrawnImages:
    """Noise, drawn where it is read; the folder remembers in which processes that was.

    Attributes:
        n: Images.
        folder: Takes a file of the name of each process.
        seconds: That a chunk takes.
        unreadable: The first row that cannot be read.
    """

    n: int
    folder: Path
    seconds: float = 0.0
    unreadable: int = 10**9
    shape = (12, 12)

    def __len__(self):
        return self.n

    def fingerprint(self):
        return f"noise {self.n}"

    def read(self, rows):
        indices = np.arange(self.n)[rows]
        (self.folder / str(os.getpid())).touch()
        time.sleep(self.seconds)
        if indices.max() >= self.unreadable:
            raise DataError(f"image {indices.max()} cannot be read")
        return np.stack(
            [np.random.default_rng(row).integers(0, 256, self.shape, np.uint8) for row in indices]
        )
