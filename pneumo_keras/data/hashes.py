"""A hash of each image, by which it is known wherever it lies: kept, since to read images takes long."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from pneumo_keras.data.images import ImageSet, iterate_images
from pneumo_keras.storage.chunked import ChunkedArray
from pneumo_keras.storage.kept import HASHES

AT_ONCE = 1 << 16  # hashes that are written together
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
    """The same, kept for the next training on these images: to read them takes the longest.

    Args:
        images: Any.
        cache: The folder below which hashes are kept; one that cannot be written is passed over.
    """
    fingerprint = images.fingerprint()
    kept = ChunkedArray(
        cache / "hashes" / f"{fingerprint}.npy", (len(images),), "<u8", AT_ONCE, f"hashes of {fingerprint}"
    )
    if not kept.find_missing():
        with contextlib.suppress(OSError, ValueError):  # somebody may just have cleared the cache
            return np.array(kept.open(), np.uint64)
    hashes = hash_images(images)
    with contextlib.suppress(OSError):
        kept.make_room()
        for chunk in range(kept.count):
            rows = kept.get_rows(chunk)
            kept.write(chunk, hashes[rows.start : rows.stop])
        HASHES.shrink(cache, LIMIT)
    return hashes
