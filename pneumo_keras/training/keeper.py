"""Keeps where a fit stands, and lets it go on from there."""

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from pneumo_keras.distributed.process_group import Company
from pneumo_keras.runtime.signals import Stopped, check_stop, is_stop_asked
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.callbacks import BestMembers, EpochLog
from pneumo_keras.training.checkpoint import Checkpoint, State, pack, unpack

ops: Any = keras.ops  # untyped

METRICS = "metrics"  # figures of the epoch so far, which Keras makes late and empties before each epoch
START = "start"  # the note that says where the fit begins
SECONDS_BETWEEN = 10.0  # two checkpoints
SHARE = 20  # times as long as a save takes, at least, the fit goes on between two


class Keeper(keras.callbacks.Callback):
    """Saves the state of a fit now and then, when somebody asks to stop, and at its end.

    It must be the last of the callbacks, and ends the fit with `Stopped` after the batch in which somebody
    asked for it.

    Args:
        batches: Training inputs, which it turns to each epoch.
        head: All that learns, with the state of its random layers.
        others: Callbacks whose state belongs to that of the fit.
        checkpoint: Where the state is kept; None to keep none.
        company: Processes that the fit is shared with, if any: they begin where the first one does, and stop
            where all do.

    Attributes:
        epoch: Epochs that are finished.
        batch: Batches of the next one that are.
    """

    def __init__(
        self,
        batches: Batches,
        head: keras.Model,
        others: tuple[EpochLog, BestMembers],
        checkpoint: Checkpoint | None,
        company: Company | None = None,
    ) -> None:
        super().__init__()
        self.epoch = self.batch = 0
        self._batches, self._head, self._others, self._checkpoint = batches, head, others, checkpoint
        self._company = company
        self._restored: State = {}
        self._saved, self._wait = time.monotonic(), SECONDS_BETWEEN

    def restore(self) -> None:
        """Goes on where the checkpoint says, if there is one.

        Raises:
            RunError: It is damaged, or of another fit.
        """
        found = self._checkpoint.load() if self._checkpoint else None
        if self._company:
            found = self._share(self._company, found)
        if not found:
            return
        self.epoch, self.batch, state = found
        try:
            for name, variable in self._list_variables().items():
                variable.assign(_check(state[name], variable))
            for other in self._others:
                other.restore(state)
        except (KeyError, ValueError) as error:
            if self._checkpoint is None:
                raise
            raise self._checkpoint.to_damage(f"it does not fit: {error}") from error
        self._restored = state

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.start_epoch(epoch + 1, skip=self.batch)
        model: Any = self.model
        if self.batch:  # the epoch began before
            self._others[0].restore(self._restored)
            for name, variable in _name(METRICS, model.metrics_variables).items():
                variable.assign(self._restored[name])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batch += 1
        # With the last batch of an epoch the image's validation is due, which nobody can go on with.
        if self.batch < self._batches.count_batches():
            self._save_if_due()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._stop(self._company.find_stop() if self._company else 0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch, self.batch = epoch + 1, 0
        self._save_if_due()

    def save(self) -> None:
        """Writes the checkpoint, if one is kept.

        Raises:
            RunError: It cannot be written.
        """
        if self._checkpoint:
            started = time.monotonic()
            state = self._to_state()
            self._checkpoint.save(self.epoch, self.batch, state)
            self._saved = time.monotonic()
            self._wait = max(SECONDS_BETWEEN, SHARE * (self._saved - started))

    def _to_state(self) -> State:
        model: Any = self.model
        variables = {**self._list_variables(), **_name(METRICS, model.metrics_variables)}
        # Copies, since JAX gives its own memory away.
        state = {name: np.array(ops.convert_to_numpy(variable)) for name, variable in variables.items()}
        for other in self._others:
            state.update(other.to_state())
        return state

    def _share(self, company: Company, found: tuple[int, int, State] | None) -> tuple[int, int, State]:
        """Where the first process begins, for all."""
        if company.rank == 0:
            epoch, batch, state = found or (0, 0, self._to_state())
            company.say(START, bytes(pack(epoch, batch, state, {})))
            return epoch, batch, state
        return unpack(company.hear(START))[:3]

    def _save_if_due(self) -> None:
        number = self._company.find_stop() if self._company else 0
        asked = self._company.stopping if self._company else is_stop_asked()
        if asked or time.monotonic() - self._saved >= self._wait:
            self.save()
        self._stop(number)

    def _stop(self, number: int) -> None:
        if not self._company:
            check_stop()
        elif number:
            raise Stopped(number)

    def _list_variables(self) -> dict[str, Any]:
        """Of the head and of the optimiser."""
        model: Any = self.model
        return _name("head", self._head.variables) | _name("optimizer", model.optimizer.variables)


def _name(group: str, variables: Sequence[Any]) -> dict[str, Any]:
    return {f"{group}_{index}": variable for index, variable in enumerate(variables)}


def _check(value: np.ndarray, variable: Any) -> np.ndarray:
    if value.shape != tuple(variable.shape):
        raise ValueError(f"{variable.path} has another shape")
    return value
