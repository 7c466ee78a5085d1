"""The fit: Keras' own `model.fit` with class weights, the best epoch of each member kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from jaxtyping import Bool
from sklearn.utils.class_weight import compute_class_weight

from pneumo_keras.arrays import Labels
from pneumo_keras.training.callbacks import BestMembers, EpochLog
from pneumo_keras.training.members import MemberAdamW, MemberCrossentropy, MemberMetrics


@dataclass(frozen=True)
class History:
    """What happened, epoch by epoch.

    Attributes:
        epochs: For each epoch its number from 1, `loss`, `accuracy`, `val_loss`, `val_accuracy` and
            the `learning_rate` it ran with, all of them means over members; with several members
            also `val_loss_1`, ... The training loss is class-weighted, the validation loss is not.
        best_epochs: For each member the one with its lowest validation loss, whose weights were kept.
        finite: Whether each member's losses were numbers to the end.
    """

    epochs: list[dict[str, float]]
    best_epochs: list[int]
    finite: Bool[np.ndarray, " members"]


def compute_class_weights(labels: Labels) -> dict[int, float]:
    """scikit-learn's balanced weights: n / (2 * films of the class), for `fit`."""
    weights = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    return {label: float(weight) for label, weight in enumerate(weights)}


def fit(
    model: keras.Model,
    batches: keras.utils.PyDataset,
    validation: keras.utils.PyDataset,
    *,
    class_weights: dict[int, float] | None,
    epochs: int,
    learning_rates: Sequence[float],
    weight_decays: Sequence[float],
    plateau_factor: float,
    plateau_patience: int,
    log_epochs: bool = True,
) -> History:
    """Fits a model that ends in log odds (n, members), each member as if it were alone.

    Leaves every member with the weights of its best epoch.

    Args:
        model: All that learns in it has the members as its first axis.
        batches: Training inputs with labels, and with weights (n, members) where there are no class
            weights.
        validation: The same of the films that are judged on after each epoch; weights where a
            member is judged on some of them alone.
        class_weights: Multiplies the loss of the films of a class, in training only.
        epochs: Passes over the training films.
        learning_rates: Of AdamW at the start, for each member.
        weight_decays: Of AdamW, for each member (decoupled: each step shrinks weights by learning
            rate times this).
        plateau_factor: A member's learning rate is multiplied by this ...
        plateau_patience: ... after this many epochs without a lower validation loss of its own.
        log_epochs: Whether every epoch gets a line.
    """
    members = len(learning_rates)
    figures = [MemberMetrics(members)]
    # The same layers in a model of its own: a compiled one would be saved with its optimiser.
    learner: Any = keras.Model(model.input, model.output)
    learner.compile(
        optimizer=MemberAdamW(learning_rates, weight_decays),
        loss=MemberCrossentropy(),
        # Class weights would turn accuracy into something else.
        metrics=figures if class_weights else None,
        weighted_metrics=None if class_weights else figures,
    )
    epoch_log = EpochLog(members, epochs if log_epochs else None)
    best = BestMembers(members, factor=plateau_factor, patience=plateau_patience)
    learner.fit(
        batches,
        validation_data=validation,
        class_weight=class_weights,
        epochs=epochs,
        shuffle=False,  # the batches are, from a seed of their own
        callbacks=[epoch_log, best],
        verbose=0,
    )
    return History(epoch_log.epochs, best.best_epochs.tolist(), best.finite)
