"""Splits drawn where nobody states them: with alike shares of the classes, and each patient in one."""

from collections.abc import Sequence

import numpy as np

from pneumo_keras.arrays import Labels
from pneumo_keras.errors import DataError

SEED = 0
"""Of the draw. Not the settings' seed: a film must not move to another split when a training is repeated."""

FOLDS = 10  # one is drawn for each split but the first, so that it has a tenth of the films


def draw_splits(
    names: Sequence[str],
    labels: Labels,
    patients: Sequence[str],
    *,
    splits: Sequence[str],
    place: str,
) -> dict[str, list[int]]:
    """Draws splits: a tenth of the films for each but the first, which has the rest.

    Args:
        names: Of all films. The draw does not depend on their order.
        labels: Of the films.
        patients: Whose films they are, "" where nobody says. No patient stands in two splits.
        splits: To be drawn, at least two.
        place: Where the films are, for the message.

    Returns:
        By split the indices of its films, ascending.

    Raises:
        DataError: There are too few films, or patients, of a class.
    """
    # scikit-learn takes a second to import and is not needed where splits are stated.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    order = np.argsort(np.array(names, dtype=object))
    classes = labels[order]
    owners = [patient or f"film {name}" for patient, name in zip(patients, names, strict=True)]
    groups = np.array(owners)[order]
    folds = _count_folds(classes, groups, at_least=len(splits), place=place)
    if any(patients):
        drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=SEED).split(groups, classes, groups)
    else:  # the same for groups of one, in a hundredth of the time
        drawn = StratifiedKFold(folds, shuffle=True, random_state=SEED).split(groups, classes)
    held_out = {split: rows for split, (_, rows) in zip(splits[1:], drawn, strict=False)}
    rest = np.setdiff1d(np.arange(len(names)), np.concatenate(list(held_out.values())))
    return {split: sorted(order[rows].tolist()) for split, rows in {splits[0]: rest, **held_out}.items()}


def _count_folds(classes: Labels, groups: np.ndarray, *, at_least: int, place: str) -> int:
    fewest = min(len(np.unique(groups[classes == label])) for label in (0, 1))
    if fewest < at_least:
        raise DataError(
            f"{place}: splits are drawn from at least {at_least} films, or patients, of each class. "
            f"Received: {fewest} of one. Add films, or state the splits."
        )
    return min(FOLDS, fewest)
