"""Folds for cross-validation."""

import hashlib

import numpy as np
from jaxtyping import Int64
from sklearn.model_selection import StratifiedGroupKFold

from pneumo_keras.data.films import LabelledFilms, count_classes, iterate_films
from pneumo_keras.errors import DataError

Folds = Int64[np.ndarray, " n"]
"""The fold in which each film is held out, from 0."""


def draw_folds(films: LabelledFilms, *, folds: int, seed: int) -> Folds:
    """Draws folds with alike shares of pneumonia; films with the same pixels stay together.

    Args:
        films: Of all splits that are used for a choice.
        folds: Their number, at least 2.
        seed: Of the draw.

    Raises:
        DataError: A class has fewer films than there are folds.
    """
    fewest = min(count_classes(films.labels))
    if fewest < folds:
        raise DataError(f"{folds} folds need as many films of each class. Received: {fewest} of one.")
    digests = [hashlib.sha256(film.tobytes()).digest() for films_ in iterate_films(films) for film in films_]
    _, groups = np.unique(digests, return_inverse=True)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    held_out = np.empty(len(films), np.int64)
    for fold, (_, rows) in enumerate(splitter.split(groups, films.labels, groups)):
        held_out[rows] = fold
    return held_out
