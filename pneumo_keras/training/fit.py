"""The fit: Keras' own `model.fit` with class weights, and the moments and weights that it needs."""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from jaxtyping import Bool, Float, Float32
from sklearn.utils.class_weight import compute_class_weight

from pneumo_keras.arrays import Labels
from pneumo_keras.distributed.data_parallel import DataParallel
from pneumo_keras.features.store import FeatureTable, iterate_rows
from pneumo_keras.model.inference import Moments
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.runtime.signals import defer_stop
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.callbacks import BestMembers, EpochLog, FiniteLoss
from pneumo_keras.training.checkpoint import Checkpoint, CheckpointCallback
from pneumo_keras.training.members import (
    CountedLoss,
    MemberAdamW,
    MemberCrossentropy,
    MemberMetrics,
    MemberSGD,
)

log = logging.getLogger("pneumo_keras")

OPTIMIZERS = {"adamw": MemberAdamW, "sgd": MemberSGD}

ImageWeights = Bool[np.ndarray, "n *members"] | Float[np.ndarray, "n *members"]


@dataclass(frozen=True)
class FitConfig:
    """How the members of a model learn.

    Attributes:
        optimizer: AdamW, or gradient descent with Nesterov momentum, see `MemberSGD`.
        schedule: On a "plateau" of its validation loss a member slows down, and at the end the weights of its
            best epoch are restored. On a "cosine" all rates fall to 0 and the last weights stay:
            validation images are not used.
        epochs: Passes over the training images.
        plateau_factor: A member's rate is multiplied by this ...
        plateau_patience: ... after this many epochs without a lower validation loss of its own.
        learning_rates: Initial learning rate of each member.
        weight_decays: Weight decay of each member.
        rate_setting: The setting to be lowered where the loss is NaN.
    """

    optimizer: Literal["adamw", "sgd"]
    schedule: Literal["plateau", "cosine"]
    epochs: int
    plateau_factor: float
    plateau_patience: int
    learning_rates: Sequence[float]
    weight_decays: Sequence[float]
    rate_setting: str = "training.learning_rate"


@dataclass(frozen=True)
class History:
    """What happened, epoch by epoch.

    Attributes:
        epochs: A row for each, means over members; the training loss is class-weighted, the validation loss
            is not. `kept` counts the members that ended with the weights of this epoch.
        kept_epochs: The epoch whose weights each member ended with.
        finite: Whether each member's losses were finite to the end.
    """

    epochs: list[dict[str, float]]
    kept_epochs: list[int]
    finite: Bool[np.ndarray, " members"]


def compute_class_weights(labels: Labels) -> dict[int, float]:
    """scikit-learn's balanced weights: n / (2 * images of the class), for `fit`."""
    weights = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    return {label: float(weight) for label, weight in enumerate(weights)}


def compute_moments(
    views: Sequence[FeatureTable | Float32[np.ndarray, "_n d"]], weights: ImageWeights | None = None
) -> tuple[Moments, Moments]:
    """Mean and variance of each feature over all images and views, in two passes.

    Each is (d), or (members, d) where images have a weight for each member; a mask leaves images out.
    """
    # Squares about the overall mean, or those of large means would swallow small variances.
    centre = sum(rows.sum(axis=0, dtype=np.float64) for view in views for rows in iterate_rows(view))
    centre = np.asarray(centre / sum(map(len, views)))
    total, sums, squares = np.float64(0), np.float64(0), np.float64(0)
    for view in views:
        of_images = np.ones(len(view)) if weights is None else weights.astype(np.float64)
        for rows, part in zip(iterate_rows(view), iterate_rows(of_images), strict=True):
            shifted = rows - centre
            total = total + part.T.sum(-1)
            sums = sums + part.T @ shifted
            squares = squares + part.T @ shifted**2
    counts = np.expand_dims(total, -1)
    shift = sums / counts
    return centre + shift, squares / counts - shift**2


def fit(
    model: keras.Model,
    batches: Batches,
    validation: Batches,
    config: FitConfig,
    *,
    class_weights: dict[int, float] | None,
    head: keras.Model | None = None,
    checkpoint: Checkpoint | None = None,
    fitted_before: bool = False,
    devices: DataParallel | None = None,
) -> History:
    """Fits a model that ends in log odds (n, members), each member as if it were alone.

    Args:
        model: All that learns in it has the members as its first axis, unless there is only one.
        batches: Training inputs with labels.
        validation: The same of the images that are evaluated on after each epoch.
        config: How members learn.
        class_weights: Multiplies the loss of the images of a class, in training only. None for a
            cross-validation: its batches have weights (n, members), its epochs are not logged, and a member
            whose loss is NaN does not end the fit of the others.
        head: The part of the model that learns; all of it without.
        checkpoint: Where the fit is saved, and resumed from; nowhere without.
        fitted_before: Whether the weights count as those of epoch 0, which are kept where no epoch has a
            lower validation loss.
        devices: Devices that share each step, whose `scope` this must be in; batches are this process's rows.
            Without, all is done by the device that the backend takes by itself.

    Raises:
        TrainingError: A loss is NaN or infinite.
        Stopped: A signal came; the checkpoint has all that is done.
        RunError: The checkpoint cannot be written, is damaged, or belongs to another fit.
    """
    members, epochs, on_plateau = len(config.learning_rates), config.epochs, config.schedule == "plateau"
    metrics, loss = [MemberMetrics(members)], CountedLoss()
    schedule = 1.0 if on_plateau else keras.optimizers.schedules.CosineDecay(1.0, epochs * len(batches))
    # The same layers in a model of its own: a compiled one would be saved with its optimiser.
    learner: Any = keras.Model(model.input, model.output)
    learner.compile(
        optimizer=OPTIMIZERS[config.optimizer](config.learning_rates, config.weight_decays, schedule),
        loss=MemberCrossentropy(),
        # Class weights would turn accuracy into something else.
        metrics=metrics if class_weights else None,
        weighted_metrics=[loss] if class_weights else [*metrics, loss],
    )
    epoch_log = EpochLog(members, epochs if class_weights else None)
    best = BestMembers(members, factor=config.plateau_factor, patience=config.plateau_patience)
    group = devices.group if devices else None
    state = CheckpointCallback(batches, head or model, (epoch_log, best), checkpoint, group)
    callbacks = [
        epoch_log,
        *([best] if on_plateau else []),
        *([FiniteLoss(batches, config.rate_setting)] if class_weights else []),
        state,
    ]
    learner.optimizer.build(learner.trainable_variables)
    for callback in (epoch_log, best, state):
        callback.set_model(learner)
    state.restore()
    if state.epoch or state.batch:
        log.info("Continuing after epoch %d, batch %d", state.epoch, state.batch)
    elif fitted_before:
        best.start_from(learner.evaluate(validation, return_dict=True, verbose=0))
    total, done = epochs * len(batches), state.epoch * len(batches) + state.batch
    replicated = devices.replicate(model.variables) if devices else nullcontext()
    with defer_stop(), replicated, show_progress("Fitting", total, "batches", done=done) as progress:
        advance = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: progress.advance(1))
        for stop in _list_stops(state, epochs):
            if not epoch_log.finite.any():
                break
            batches.start_epoch(state.epoch + 1, skip=state.batch)  # Keras reads their number here
            learner.fit(
                batches,
                validation_data=validation,
                class_weight=class_weights,
                initial_epoch=state.epoch,
                epochs=stop,
                shuffle=False,  # the batches are, from a seed of their own
                callbacks=[*callbacks, advance],
                verbose=0,
            )
        state.save()
    kept = [len(epoch_log.epochs)] * members
    if on_plateau:
        best.restore_best()
        kept = best.best_epochs.tolist()
    counts = Counter(kept)
    rows = [{**row, "kept": counts[int(row["epoch"])]} for row in epoch_log.epochs]
    return History(rows, kept, epoch_log.finite)


def _list_stops(state: CheckpointCallback, epochs: int) -> list[int]:
    """The epochs at which Keras' fit is to end: an epoch that is half done needs one of its own."""
    rest = [state.epoch + 1] if state.batch else []
    return [*rest, epochs] if max([state.epoch, *rest]) < epochs else rest
