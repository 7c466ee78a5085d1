"""Cross-validation of many settings in one fit: a member for each setting and fold."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from jaxtyping import Bool, Float32, Int64

from pneumo_keras.arrays import Features, Labels, MemberWeights
from pneumo_keras.features.store import SLICE
from pneumo_keras.model.head import Moments
from pneumo_keras.runtime.seeds import derive_seeds
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.fit import FitConfig, compute_class_weights, compute_moments, fit
from pneumo_keras.training.folds import Folds

HeadBuilder = Callable[[Sequence[int], tuple[Moments, Moments]], keras.Model]
"""Makes heads from the seeds of their members, and from mean and variance of what each is fitted on."""


LogOddsOfSettings = Float32[np.ndarray, "n settings"]


@dataclass(frozen=True)
class HeldOut:
    """What each setting says of images that it has not seen.

    Attributes:
        log_odds: By the way in which images are evaluated: of each image, from the member that was fitted
            without its fold; NaN for a setting whose losses were not numbers to the end, in every fold.
        kept_epochs: Of each setting in each fold.
        weights: Numbers that a head learns, the same in all settings.
    """

    log_odds: dict[str, LogOddsOfSettings]
    kept_epochs: Int64[np.ndarray, "settings folds"]
    weights: int


def cross_validate(
    build_head: HeadBuilder,
    views: Sequence[Features],
    evaluated: Mapping[str, Sequence[Features]],
    labels: Labels,
    folds: Folds,
    *,
    moments: tuple[Moments, Moments],
    learning_rates: Sequence[float],
    weight_decays: Sequence[float],
    config: FitConfig,
    batch_size: int,
    seed: int,
) -> HeldOut:
    """Fits every setting once without each fold, all of them at the same time.

    As in training, what a schedule learns from validation images it learns from the held-out ones, so
    their figures may be a little better than those of new images; settings are compared on the same terms.

    Args:
        build_head: See there. Settings differ in the rates and decays below alone, and share the
            seeds of the folds.
        views: Features of all images in each view that is trained on.
        evaluated: The ways in which images are evaluated, by name: features of all images in each view over
            which log odds are averaged. The first view of the first way is the one that schedules see.
        labels: Of the images.
        folds: In which each image is held out.
        moments: What `compute_fold_moments` says of the views.
        learning_rates: Of each setting.
        weight_decays: Of each setting.
        config: See `fit`.
        batch_size: Images in a step, those of the held-out fold included.
        seed: Of initial weights, dropout and the order of images.
    """
    settings, count = len(learning_rates), int(folds.max()) + 1
    mean, variance = (np.tile(part, (settings, 1)) for part in moments)
    head = build_head(derive_seeds(seed, count=count) * settings, (mean, variance))
    in_fold = (folds[:, None] == np.arange(count)).astype(np.float32)
    weights = np.tile(weigh_folds(labels, folds), (1, settings))
    watched = next(iter(evaluated.values()))[:1]
    history = fit(
        head,
        Batches(views, labels, batch_size=batch_size, seed=seed, weights=weights),
        Batches(watched, labels, batch_size=SLICE, seed=None, weights=np.tile(in_fold, (1, settings))),
        class_weights=None,
        learning_rates=np.repeat(learning_rates, count).tolist(),
        weight_decays=np.repeat(weight_decays, count).tolist(),
        config=config,
        among_others=True,
    )
    finite = np.array([of_folds.all() for of_folds in history.finite.reshape(settings, count)])
    return HeldOut(
        log_odds={name: _score_unseen(head, each, folds, finite) for name, each in evaluated.items()},
        kept_epochs=np.array(history.kept_epochs).reshape(settings, count),
        weights=sum(math.prod(variable.shape[1:]) for variable in head.trainable_variables),
    )


def compute_fold_moments(views: Sequence[Features], folds: Folds) -> tuple[Moments, Moments]:
    """Mean and variance of each feature over all images outside each fold and all views: each (folds, d)."""
    return compute_moments(views, folds[:, None] != np.arange(int(folds.max()) + 1))


def _score_unseen(
    head: keras.Model, views: Sequence[Features], folds: Folds, finite: Bool[np.ndarray, " settings"]
) -> LogOddsOfSettings:
    log_odds = np.mean([head.predict(features, batch_size=SLICE, verbose="0") for features in views], axis=0)
    by_fold = log_odds.reshape(len(folds), len(finite), -1)
    unseen = np.take_along_axis(by_fold, folds[:, None, None], axis=2)[..., 0]
    unseen[:, ~finite] = np.nan
    return unseen


def weigh_folds(labels: Labels, folds: Folds) -> MemberWeights:
    """Balanced class weights of the images (n, folds) outside each fold, 0 inside it; 1 in the mean of all.

    Keras takes the mean over all images of a batch, those of weight 0 included: with a mean of 1 each
    member's loss stands to its penalty as in a training on the images outside alone.
    """
    weights = np.zeros((len(labels), int(folds.max()) + 1), np.float32)
    for fold in range(weights.shape[1]):
        outside = folds != fold
        class_weights = compute_class_weights(labels[outside])
        of_classes = np.array([class_weights[0], class_weights[1]]) / outside.mean()
        weights[outside, fold] = of_classes[labels[outside]]
    return weights
