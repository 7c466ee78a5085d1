"""The images that a run has seen, as a hash of each: so that they are known wherever they lie."""

from pathlib import Path

import numpy as np

from pneumo_keras.data.hashes import Hashes
from pneumo_keras.errors import RunError
from pneumo_keras.storage.bounded_reading import load_npy


def load_seen_images(path: Path) -> Hashes:
    """The hashes of the images that a run has seen.

    Raises:
        RunError: The file is damaged.
    """
    try:
        seen = load_npy(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}. Train again.") from error
    if seen.dtype != np.uint64 or seen.ndim != 1:
        raise RunError(
            f"{path} is damaged: it must hold hashes of images. Received: {seen.dtype} {seen.shape}. "
            "Train again."
        )
    return seen
