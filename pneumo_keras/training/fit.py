"""The fit: Keras' own `model.fit` with class weights, the best epoch kept."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from pneumo_keras.arrays import Labels
from pneumo_keras.errors import TrainingError

log = logging.getLogger("pneumo_keras")


@dataclass(frozen=True)
class History:
    """What happened, epoch by epoch.

    Attributes:
        epochs: For each epoch its number from 1, `loss`, `accuracy`, `val_loss`, `val_accuracy`
            and the `learning_rate` it ran with. The training loss is class-weighted, the
            validation loss is not.
        best_epoch: The one with the lowest validation loss, whose weights were kept.
    """

    epochs: list[dict[str, float]]
    best_epoch: int


class EpochLog(keras.callbacks.Callback):
    """Keeps the figures of every epoch and says them."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._total = epochs
        self._learning_rate = math.nan
        self.epochs: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        self._learning_rate = float(model.optimizer.learning_rate)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        figures = {name: float((logs or {})[name]) for name in names}
        self.epochs.append({"epoch": epoch + 1, **figures, "learning_rate": self._learning_rate})
        log.info(
            "Epoch %d of %d: loss %.4f, accuracy %.4f, validation loss %.4f, accuracy %.4f",
            epoch + 1,
            self._total,
            *figures.values(),
        )


def compute_class_weights(labels: Labels) -> dict[int, float]:
    """scikit-learn's balanced weights: n / (2 * films of the class), for `fit`."""
    weights = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    return {label: float(weight) for label, weight in enumerate(weights)}


def fit(
    model: keras.Model,
    batches: keras.utils.PyDataset,
    validation: tuple[np.ndarray, Labels],
    *,
    class_weights: dict[int, float],
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    plateau_factor: float,
    plateau_patience: int,
) -> History:
    """Fits a model that ends in logits and leaves it with the weights of its best epoch.

    Args:
        model: Ends in one logit, or in one for each class.
        batches: Training inputs with labels.
        validation: Inputs with labels, never weighted.
        class_weights: Multiplies the loss of the films of a class, in training only.
        epochs: Passes over the training films.
        learning_rate: Of AdamW at the start.
        weight_decay: Of AdamW (decoupled: each step shrinks weights by learning rate times this).
        plateau_factor: The learning rate is multiplied by this ...
        plateau_patience: ... after this many epochs without a lower validation loss.

    Raises:
        TrainingError: The loss is no longer a number.
    """
    one_logit = model.output_shape[-1] == 1
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay),
        loss=keras.losses.BinaryCrossentropy(from_logits=True)
        if one_logit
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
            if one_logit
            else keras.metrics.SparseCategoricalAccuracy("accuracy")
        ],
    )
    epoch_log = EpochLog(epochs)
    best = keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=plateau_factor, patience=plateau_patience, min_delta=0.0
    )
    fit_model: Any = model.fit
    fit_model(
        batches,
        validation_data=validation,
        class_weight=class_weights,
        epochs=epochs,
        callbacks=[epoch_log, best, plateau, keras.callbacks.TerminateOnNaN()],
        verbose=0,
    )
    return _to_history(epoch_log.epochs)


def _to_history(epochs: list[dict[str, float]]) -> History:
    losses = [figures["val_loss"] for figures in epochs]
    if not losses or not all(math.isfinite(figures["loss"] + figures["val_loss"]) for figures in epochs):
        raise TrainingError(
            "The loss is no longer a number. Lower training.learning_rate, or check model.weights."
        )
    return History(epochs=epochs, best_epoch=int(np.argmin(losses)) + 1)
