"""Folds for cross-validation."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from pneumo_keras.arrays import CLASS_NAMES, Labels
from pneumo_keras.data.hashes import Hashes
from pneumo_keras.errors import DataError

Folds = Int64[np.ndarray, " n"]
"""The fold in which each image is held out, from 0."""

Groups = Int64[np.ndarray, " n"]
"""A number for each image, the same for images that must not be parted."""


def draw_folds(labels: Labels, hashes: Hashes, patients: Sequence[str], *, folds: int, seed: int) -> Folds:
    """Draws folds with alike shares of pneumonia; images of one patient, or of one content, stay together.

    Args:
        labels: Of all images that are used for a choice.
        hashes: Of the pixels of the same images.
        patients: Whose they are, "" where that is unknown.
        folds: Their number, at least 2.
        seed: Of the draw.

    Raises:
        DataError: A class has fewer images, or patients, than there are folds.
    """
    groups = group_images(hashes, patients)
    for label, name in enumerate(CLASS_NAMES):
        images, apart = int((labels == label).sum()), len(np.unique(groups[labels == label]))
        if apart < folds:
            raise DataError(
                f"{folds} folds need as many patients, or images of unknown patients, of each class. "
                f"Received: {apart:,} among {images:,} images of {name}."
            )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    held_out = np.empty(len(labels), np.int64)
    for fold, (_, rows) in enumerate(splitter.split(groups, labels, groups)):
        held_out[rows] = fold
    return held_out


def group_images(hashes: Hashes, patients: Sequence[str]) -> Groups:
    """Groups of images that show one patient or have the same pixels, and of all that such images connect."""
    n = len(hashes)
    owners = [f"patient {patient}" if patient else f"image {row}" for row, patient in enumerate(patients)]
    _, owners = np.unique(owners, return_inverse=True)
    _, pixels = np.unique(hashes, return_inverse=True)
    # Images on one side, what they share on the other: a group is what hangs together.
    rows, columns = np.tile(np.arange(n), 2), np.concatenate([pixels, n + owners])
    links = coo_array((np.ones(2 * n), (rows, n + columns)), shape=(3 * n, 3 * n))
    _, components = connected_components(links, directed=False)
    return np.unique(components[:n], return_inverse=True)[1].astype(np.int64)
