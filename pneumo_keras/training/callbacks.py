"""What happens at the end of each batch and each epoch of a fit."""

import json
import logging
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64

from pneumo_keras.errors import TrainingError
from pneumo_keras.training.batches import Batches

log = logging.getLogger("pneumo_keras")
ops: Any = keras.ops  # untyped

State = dict[str, np.ndarray]
"""Arrays by name: all that changes in a fit."""

LINES = 20  # of the log at most, whatever the number of epochs


class EpochLog(keras.callbacks.Callback):
    """Keeps the metrics of every epoch, means over members, and stops where no member's loss is finite.

    `total` is the number of epochs, for lines of the log; None for no lines. `epochs` has a row for each,
    `finite` for each member whether its losses were finite so far.
    """

    def __init__(self, members: int, total: int | None) -> None:
        super().__init__()
        self._members, self._total = members, total
        self._learning_rate = np.nan
        self.epochs: list[dict[str, float]] = []
        self.finite = np.ones(members, bool)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        rates = ops.convert_to_numpy(model.optimizer.rates)
        self._learning_rate = float(np.mean(rates, dtype=np.float64)) * float(model.optimizer.learning_rate)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        accuracies, val_losses, val_accuracies = (
            to_member_values(logs, name, self._members) for name in ("accuracy", "val_loss", "val_accuracy")
        )
        figures = {
            "loss": float(logs["loss"]),
            "accuracy": float(accuracies.mean()),
            "val_loss": float(val_losses.mean()),
            "val_accuracy": float(val_accuracies.mean()),
        }
        row = {"epoch": epoch + 1, **figures, "learning_rate": self._learning_rate}
        if self._members > 1:
            row |= {f"val_loss_{member}": float(loss) for member, loss in enumerate(val_losses, start=1)}
        self.epochs.append(row)
        self.finite &= np.isfinite(val_losses)
        model: Any = self.model
        model.stop_training = not self.finite.any()
        if self._total and ((epoch + 1) % -(-self._total // LINES) == 0 or epoch + 1 == self._total):
            log.info(
                "Epoch %d of %d: loss %.4f, accuracy %.4f, validation loss %.4f, accuracy %.4f",
                epoch + 1,
                self._total,
                *figures.values(),
            )

    def to_state(self) -> State:
        """All that changes."""
        rows = np.frombuffer(json.dumps(self.epochs).encode(), np.uint8)
        return {"epochs": rows, "finite": self.finite, "learning_rate": np.array(self._learning_rate)}

    def restore(self, state: State) -> None:
        """Goes on from `to_state`."""
        self.epochs, self.finite = json.loads(state["epochs"].tobytes()), state["finite"]
        self._learning_rate = float(state["learning_rate"])


class FiniteLoss(keras.callbacks.Callback):
    """Ends a fit as soon as the loss of any member is NaN or infinite; `setting` is that of the rate."""

    def __init__(self, batches: Batches, setting: str) -> None:
        super().__init__()
        self._batches, self._setting = batches, setting

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not np.isfinite((logs or {})["loss"]):
            number = self._batches.skip + batch + 1
            self._refuse(f"batch {number} of {self._batches.count_batches()}", self._batches[batch][0])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not all(np.isfinite(value) for name, value in (logs or {}).items() if name.startswith("val_loss")):
            self._refuse("on the validation images", np.zeros(0))

    def _refuse(self, where: str, inputs: np.ndarray) -> None:
        cause = (
            f"Lower {self._setting}."
            if np.isfinite(inputs).all()
            else "Features of these images are not finite: check model.weights."
        )
        raise TrainingError(f"The loss is NaN or infinite, in epoch {self._batches.epoch}, {where}. {cause}")


class BestMembers(keras.callbacks.Callback):
    """Restores the weights of each member's best epoch at the end, and lowers learning rates on the way.

    That of a member is multiplied by `factor` after `patience` epochs without a lower validation loss of its
    own.
    """

    def __init__(self, members: int, *, factor: float, patience: int) -> None:
        super().__init__()
        self._factor, self._patience = factor, patience
        self._lowest = np.full(members, np.inf)
        self._waited = np.zeros(members, int)
        self._weights: list[np.ndarray] = []
        self.best_epochs = np.zeros(members, int)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self._weights:
            self._weights = self._read_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        losses = to_member_values(logs or {}, "val_loss", len(self._lowest))
        better = losses < self._lowest
        self._lowest[better], self.best_epochs[better] = losses[better], epoch + 1
        for kept, weights in zip(self._weights, self._read_weights(), strict=True):
            # A single member may have variables without an axis of members.
            np.copyto(kept, weights, where=better.reshape(-1, *[1] * (weights.ndim - 1)))
        self._waited = np.where(better, 0, self._waited + 1)
        on_plateau = self._waited >= self._patience
        self._waited[on_plateau] = 0
        rates = ops.convert_to_numpy(model.optimizer.rates)
        model.optimizer.rates.assign(np.where(on_plateau, rates * np.float32(self._factor), rates))

    def start_from(self, figures: dict[str, Any]) -> None:
        """Counts the weights that are there as those of epoch 0, by metrics of the validation images."""
        self._lowest = to_member_values(figures, "loss", len(self._lowest))
        log.info("Epoch 0: validation loss %.4f", self._lowest.mean())

    def restore_best(self) -> None:
        """Gives the model the weights of each member's best epoch."""
        model: Any = self.model
        for variable, weights in zip(model.trainable_variables, self._weights, strict=True):
            variable.assign(weights)

    def to_state(self) -> State:
        """All that changes."""
        weights = {f"best_{index}": weights for index, weights in enumerate(self._weights)}
        return {"lowest": self._lowest, "waited": self._waited, "best_epochs": self.best_epochs, **weights}

    def restore(self, state: State) -> None:
        """Goes on from `to_state`."""
        self._lowest, self._waited, self.best_epochs = (
            state[name].copy() for name in ("lowest", "waited", "best_epochs")
        )
        count = sum(name.startswith("best_") and name != "best_epochs" for name in state)
        self._weights = [state[f"best_{index}"].copy() for index in range(count)]

    def _read_weights(self) -> list[np.ndarray]:
        model: Any = self.model
        return [np.array(ops.convert_to_numpy(variable)) for variable in model.trainable_variables]


def to_member_values(logs: dict[str, Any], name: str, members: int) -> Float64[np.ndarray, " members"]:
    """A metric of `MemberMetrics`, member by member."""
    return np.array([float(logs[f"{name}_{member}"]) for member in range(1, members + 1)])
