"""Cross-validation of many settings in one fit: a member for each setting and fold."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import keras
import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from pneumo_keras.arrays import CLASS_NAMES, Features, Labels, MemberWeights
from pneumo_keras.data.overlap import Hashes
from pneumo_keras.errors import DataError
from pneumo_keras.features.store import SLICE
from pneumo_keras.model.inference import Moments
from pneumo_keras.runtime.seeds import derive_seeds
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.fit import FitConfig, compute_class_weights, compute_moments, fit

Folds = Int64[np.ndarray, " n"]
"""The fold in which each image is held out, from 0."""

HeadBuilder = Callable[[Sequence[int], tuple[Moments, Moments]], keras.Model]
"""Makes heads from the seeds of their members, and from mean and variance of what each is fitted on."""

LogOddsOfSettings = Float32[np.ndarray, "n settings"]


def sample_folds(labels: Labels, hashes: Hashes, patients: Sequence[str], *, folds: int, seed: int) -> Folds:
    """Draws two or more folds of like prevalence; images of one patient, or of one content, stay together.

    Hashes are those of the images' pixels; a patient is "" where it is unknown.

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


def group_images(hashes: Hashes, patients: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """The number of each image's group: of one patient or the same pixels, and of all that these connect."""
    n = len(hashes)
    owners = [f"patient {patient}" if patient else f"image {row}" for row, patient in enumerate(patients)]
    _, owners = np.unique(owners, return_inverse=True)
    _, pixels = np.unique(hashes, return_inverse=True)
    # A graph of images on one side and what they share on the other: groups are its components.
    rows, columns = np.tile(np.arange(n), 2), np.concatenate([pixels, n + owners])
    links = coo_array((np.ones(2 * n), (rows, n + columns)), shape=(3 * n, 3 * n))
    _, components = connected_components(links, directed=False)
    return np.unique(components[:n], return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class FoldedFeatures:
    """Features of all images in memory, and the fold in which each image is held out.

    Attributes:
        views: In each view that is trained on.
        evaluated: By the way in which images are evaluated: in each view over which log odds are averaged.
            Schedules use the first view of the first way.
        labels: Labels of the images.
        folds: See `sample_folds`.
    """

    views: list[Features]
    evaluated: Mapping[str, list[Features]]
    labels: Labels
    folds: Folds

    @cached_property
    def moments(self) -> tuple[Moments, Moments]:
        """Mean and variance of each feature over all views of the images outside each fold (folds, d)."""
        return compute_moments(self.views, self.folds[:, None] != np.arange(self.folds.max() + 1))


@dataclass(frozen=True)
class HeldOut:
    """What each setting predicts for images that it has not seen.

    Attributes:
        log_odds: By the way in which images are evaluated: of each image, from the member that was fitted
            without its fold; NaN for a setting whose losses were not finite to the end, in every fold.
        kept_epochs: Kept epoch of each setting in each fold.
        weights: Number of weights of a head, the same in all settings.
    """

    log_odds: dict[str, LogOddsOfSettings]
    kept_epochs: Int64[np.ndarray, "settings folds"]
    weights: int


def cross_validate(
    build_head: HeadBuilder,
    features: FoldedFeatures,
    *,
    config: FitConfig,
    batch_size: int,
    seed: int,
) -> HeldOut:
    """Fits every setting once without each fold, all of them at the same time.

    Settings differ only in the rates and decays of `config`, and share the seeds of the folds. A batch has
    images of the held-out fold, too, with weight 0.

    As in training, what a schedule learns from validation images it learns from the held-out ones, so
    their figures may be a little better than those of new images, for all settings equally.
    """
    labels, folds = features.labels, features.folds
    settings, count = len(config.learning_rates), int(folds.max()) + 1
    mean, variance = (np.tile(part, (settings, 1)) for part in features.moments)
    head = build_head(derive_seeds(seed, count=count) * settings, (mean, variance))
    in_fold = (folds[:, None] == np.arange(count)).astype(np.float32)
    weights, watching = (np.tile(part, (1, settings)) for part in (weigh_folds(labels, folds), in_fold))
    watched = next(iter(features.evaluated.values()))[:1]
    history = fit(
        head,
        Batches(features.views, labels, batch_size=batch_size, seed=seed, weights=weights),
        Batches(watched, labels, batch_size=SLICE, seed=None, weights=watching),
        replace(
            config,
            learning_rates=np.repeat(config.learning_rates, count).tolist(),
            weight_decays=np.repeat(config.weight_decays, count).tolist(),
        ),
        class_weights=None,
    )
    finite = np.array([of_folds.all() for of_folds in history.finite.reshape(settings, count)])
    return HeldOut(
        log_odds={
            name: _score_unseen(head, each, folds, finite) for name, each in features.evaluated.items()
        },
        kept_epochs=np.array(history.kept_epochs).reshape(settings, count),
        weights=sum(math.prod(variable.shape[1:]) for variable in head.trainable_variables),
    )


def weigh_folds(labels: Labels, folds: Folds) -> MemberWeights:
    """Balanced class weights of the images (n, folds) outside each fold, 0 inside it; 1 in the mean of all.

    Keras takes the mean over all images of a batch, those of weight 0 included: with a mean of 1 each
    member's loss has the proportion to its penalty that it has in a training on the images outside alone.
    """
    weights = np.zeros((len(labels), int(folds.max()) + 1), np.float32)
    for fold in range(weights.shape[1]):
        outside = folds != fold
        class_weights = compute_class_weights(labels[outside])
        of_classes = np.array([class_weights[0], class_weights[1]]) / outside.mean()
        weights[outside, fold] = of_classes[labels[outside]]
    return weights


def _score_unseen(
    head: keras.Model, views: Sequence[Features], folds: Folds, finite: Bool[np.ndarray, " settings"]
) -> LogOddsOfSettings:
    log_odds = np.mean([head.predict(features, batch_size=SLICE, verbose="0") for features in views], axis=0)
    by_fold = log_odds.reshape(len(folds), len(finite), -1)
    unseen = np.take_along_axis(by_fold, folds[:, None, None], axis=2)[..., 0]
    unseen[:, ~finite] = np.nan
    return unseen
