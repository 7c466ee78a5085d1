"""The normal images of a run: a few that others are compared with to be explained."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pneumo_keras.arrays import Images, Labels, Scores
from pneumo_keras.errors import RunError
from pneumo_keras.storage.bounded_reading import load_npz

COUNT = 8  # 16 find no more opacities on phantoms, and each takes a passage through the network


def choose_normal_images(labels: Labels, scores: Scores) -> Int64[np.ndarray, " chosen"]:
    """Indices of images that are plainly normal to the classifier, too, and are not all alike.

    Evenly from the half of the normal images with the lower scores; from all images where none is normal.

    Args:
        labels: Of validation images.
        scores: Of the same images.
    """
    normal = np.flatnonzero(labels == 0) if (labels == 0).any() else np.arange(len(labels))
    by_score = normal[np.argsort(scores[normal], kind="stable")]
    lower = by_score[: (len(by_score) + 1) // 2]
    return lower[np.unique(np.linspace(0, len(lower) - 1, COUNT).round().astype(int))]


def save_normal_images(path: Path, images: Images) -> None:
    """Writes an npz file."""
    np.savez(path, images=images)


def load_normal_images(path: Path, *, size: int) -> Images:
    """Reads what `save_normal_images` wrote.

    Args:
        path: Of the file.
        size: Height and width of the run's images in pixels.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        (images,) = load_npz(path, ["images"])
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing. Train again.") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}. Train again.") from error
    if images.dtype != np.uint8 or images.shape[1:] != (size, size) or not 0 < len(images) <= COUNT:
        received = f"{images.dtype} {images.shape}"
        raise RunError(
            f"{path} is damaged: it must hold 1 to {COUNT} images of {size} px. Received: {received}. "
            "Train again."
        )
    return images
