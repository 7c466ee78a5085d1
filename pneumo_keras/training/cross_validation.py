"""Cross-validation of many settings in one fit: a member for each setting and fold."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from jaxtyping import Float32, Int64

from pneumo_keras.arrays import Features, Labels, MemberWeights
from pneumo_keras.features.store import SLICE
from pneumo_keras.model.head import Moments
from pneumo_keras.seeds import derive_seeds
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.fit import compute_class_weights, fit
from pneumo_keras.training.folds import Folds
from pneumo_keras.training.moments import compute_moments

HeadBuilder = Callable[[Sequence[int], tuple[Moments, Moments]], keras.Model]
"""Makes heads from the seeds of their members, and from mean and variance of what each is fitted on."""


@dataclass(frozen=True)
class HeldOut:
    """What each setting says of films that it has not seen.

    Attributes:
        log_odds: Of each film, from the member that was fitted without its fold; NaN for a setting
            whose losses were not numbers to the end, in every fold.
        best_epochs: Of each setting in each fold.
        weights: Numbers that a head learns, the same in all settings.
    """

    log_odds: Float32[np.ndarray, "n settings"]
    best_epochs: Int64[np.ndarray, "settings folds"]
    weights: int


def cross_validate(
    build_head: HeadBuilder,
    views: Sequence[Features],
    judged: Sequence[Features],
    labels: Labels,
    folds: Folds,
    *,
    learning_rates: Sequence[float],
    weight_decays: Sequence[float],
    epochs: int,
    batch_size: int,
    plateau_factor: float,
    plateau_patience: int,
    seed: int,
) -> HeldOut:
    """Fits every setting once without each fold, all of them at the same time.

    As in training, the epoch with the lowest loss on the held-out films is kept, so their figures
    are a little better than those of new films; settings are compared on the same terms.

    Args:
        build_head: See there. Settings differ in the rates and decays below alone, and share the
            seeds of the folds.
        views: Features of all films in each view that is trained on.
        judged: Features of all films in each view that is scored; log odds are averaged over them.
        labels: Of the films.
        folds: In which each film is held out.
        learning_rates: Of each setting.
        weight_decays: Of each setting.
        epochs: Passes over the films.
        batch_size: Films in a step, those of the held-out fold included.
        plateau_factor: See `fit`.
        plateau_patience: See `fit`.
        seed: Of initial weights, dropout and the order of films.
    """
    settings, count = len(learning_rates), int(folds.max()) + 1
    outside = folds[:, None] != np.arange(count)
    mean, variance = (np.tile(part, (settings, 1)) for part in compute_moments(views, outside))
    head = build_head(derive_seeds(seed, count=count) * settings, (mean, variance))
    in_fold = (folds[:, None] == np.arange(count)).astype(np.float32)
    weights = np.tile(weigh_folds(labels, folds), (1, settings))
    history = fit(
        head,
        Batches(views, labels, batch_size=batch_size, seed=seed, weights=weights),
        Batches(judged[:1], labels, batch_size=SLICE, seed=None, weights=np.tile(in_fold, (1, settings))),
        class_weights=None,
        epochs=epochs,
        learning_rates=np.repeat(learning_rates, count).tolist(),
        weight_decays=np.repeat(weight_decays, count).tolist(),
        plateau_factor=plateau_factor,
        plateau_patience=plateau_patience,
        log_epochs=False,
    )
    log_odds = np.mean([head.predict(features, batch_size=SLICE, verbose="0") for features in judged], axis=0)
    by_fold = log_odds.reshape(len(labels), settings, count)
    unseen = np.take_along_axis(by_fold, folds[:, None, None], axis=2)[..., 0]
    unseen[:, ~history.finite.reshape(settings, count).all(axis=1)] = np.nan
    return HeldOut(
        log_odds=unseen,
        best_epochs=np.array(history.best_epochs).reshape(settings, count),
        weights=sum(math.prod(variable.shape[1:]) for variable in head.trainable_variables),
    )


def weigh_folds(labels: Labels, folds: Folds) -> MemberWeights:
    """Balanced class weights of the films (n, folds) outside each fold, 0 inside it."""
    weights = np.zeros((len(labels), int(folds.max()) + 1), np.float32)
    for fold in range(weights.shape[1]):
        outside = folds != fold
        class_weights = compute_class_weights(labels[outside])
        weights[outside, fold] = np.array([class_weights[0], class_weights[1]])[labels[outside]]
    return weights
