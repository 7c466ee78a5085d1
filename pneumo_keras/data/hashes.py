"""A hash of each image, by which it is known wherever it lies: kept, since to read images takes long."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from pneumo_keras.data.images import ImageSet, iterate_images
from pneumo_keras.storage.bounded_reading import load_npz
from pneumo_keras.storage.cache import HASHES
from pneumo_keras.storage.files import replace_whole

LIMIT = 1 << 28  # bytes of all that are kept
BYTES = 8  # of a hash: two of a million images share one by chance once in 40 million sets

Hashes = UInt64[np.ndarray, " n"]


def hash_images(images: ImageSet) -> Hashes:
    """A hash of the pixels of each image."""
    digests = [
        hashlib.blake2b(image.tobytes(), digest_size=BYTES).digest()
        for part in iterate_images(images)
        for image in part
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def load_hashes(images: ImageSet, cache: Path) -> Hashes:
    """The same, kept below `cache` if that can be written."""
    path = cache / HASHES.folder / f"{images.fingerprint()}.npz"
    with contextlib.suppress(OSError, ValueError):
        (hashes,) = load_npz(path, ["hashes"])
        if hashes.shape == (len(images),) and hashes.dtype == np.uint64:
            return hashes
    hashes = hash_images(images)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_whole(path) as beside:
            np.savez(beside, hashes=hashes)
        HASHES.shrink(cache, LIMIT)
    return hashes
