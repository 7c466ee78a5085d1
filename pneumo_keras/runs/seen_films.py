"""The films that a run has seen, as a hash of each: so that they are known wherever they lie."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from pneumo_keras.chunked import ChunkedArray
from pneumo_keras.data.films import Films, iterate_films
from pneumo_keras.errors import RunError
from pneumo_keras.npy import load_npy

AT_ONCE = 1 << 16  # hashes that are written together
BYTES = 8  # of a hash: two of a million films share one by chance once in 40 million sets

Hashes = UInt64[np.ndarray, " n"]


def hash_films(films: Films) -> Hashes:
    """A hash of the pixels of each film."""
    digests = [
        hashlib.blake2b(film.tobytes(), digest_size=BYTES).digest()
        for part in iterate_films(films)
        for film in part
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def load_hashes(films: Films, cache: Path) -> Hashes:
    """The same, kept for the next training on these films: to read them takes the longest.

    Args:
        films: Any.
        cache: The folder below which hashes are kept; one that cannot be written is passed over.
    """
    fingerprint = films.fingerprint()
    kept = ChunkedArray(
        cache / "hashes" / f"{fingerprint}.npy", (len(films),), "<u8", AT_ONCE, f"hashes of {fingerprint}"
    )
    if not kept.find_missing():
        with contextlib.suppress(OSError, ValueError):  # somebody may just have cleared the cache
            return np.array(kept.open(), np.uint64)
    hashes = hash_films(films)
    with contextlib.suppress(OSError):
        kept.make_room()
        for chunk in range(kept.count):
            rows = kept.get_rows(chunk)
            kept.write(chunk, hashes[rows.start : rows.stop])
    return hashes


def load_seen_films(path: Path) -> Hashes:
    """The hashes of the films that a run has seen.

    Raises:
        RunError: The file is damaged.
    """
    try:
        seen = load_npy(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}. Train again.") from error
    if seen.dtype != np.uint64 or seen.ndim != 1:
        raise RunError(
            f"{path} is damaged: it must hold hashes of films. Received: {seen.dtype} {seen.shape}. "
            "Train again."
        )
    return seen
