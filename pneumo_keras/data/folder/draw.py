"""Splits drawn where nobody states them: by a hash, so that images that are added move no others."""

import hashlib
from collections.abc import Sequence

from pneumo_keras.arrays import Labels
from pneumo_keras.errors import DataError

SEED = 0
"""Of the draw. Not the settings' seed: an image must not move to another split when a training is repeated."""

SHARE = 0.1  # of all images, expected of each split but the first
BYTES = 8  # of a hash


def draw_splits(
    names: Sequence[str],
    labels: Labels,
    patients: Sequence[str],
    *,
    splits: Sequence[str],
    place: str,
) -> dict[str, list[int]]:
    """Draws splits: about a tenth of the images for each but the first, which has the rest.

    Where an image goes depends on its patient, or on its own name, and on nothing else: images that are
    added later leave it where it is. So shares are not exact, and are the same for both classes.

    Args:
        names: Of all images.
        labels: Of the images.
        patients: Whose images they are, "" where nobody says. No patient stands in two splits.
        splits: To be drawn, at least two.
        place: Where the images are, for the message.

    Returns:
        By split the indices of its images, ascending.

    Raises:
        DataError: A split was drawn without images of a class: there are too few images, or patients.
    """
    drawn: dict[str, list[int]] = {split: [] for split in splits}
    for row, (name, patient) in enumerate(zip(names, patients, strict=True)):
        owner = f"patient {patient}" if patient else f"image {name}"
        drawn[_draw_split(owner, splits)].append(row)
    for split, rows in drawn.items():
        _check_classes(split, rows, labels, place)
    return drawn


def _draw_split(owner: str, splits: Sequence[str]) -> str:
    digest = hashlib.blake2b(f"{SEED} {owner}".encode(errors="surrogateescape"), digest_size=BYTES).digest()
    tenth = int(int.from_bytes(digest) / 2 ** (8 * BYTES) / SHARE)
    return splits[tenth + 1] if tenth + 1 < len(splits) else splits[0]


def _check_classes(split: str, rows: list[int], labels: Labels, place: str) -> None:
    for label, name in enumerate(("the other class", "the positive class")):
        if not (labels[rows] == label).any():
            raise DataError(
                f"{place}: about a tenth of the images, or patients, is drawn for each split, and each must "
                f"have some of both classes. Received: none of {name} for '{split}', of "
                f"{(labels == label).sum():,}. State the splits (folders train, val and test, or the column "
                "split), or add images."
            )
