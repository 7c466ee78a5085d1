"""The state of a fit on disk, from which it can be resumed as if it had not been stopped."""

import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumo_keras.distributed.process_group import ProcessGroup
from pneumo_keras.errors import RunError
from pneumo_keras.runtime.signals import Stopped, find_signal
from pneumo_keras.storage.bounded_reading import read_ordinary
from pneumo_keras.storage.files import replace_atomically
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.callbacks import BestMembers, EpochLog, State

ops: Any = keras.ops  # untyped

ABOUT = "about"  # what is not an array, as JSON
DIGEST = 32  # bytes
MOST_BYTES = 1 << 34
METRICS = "metrics"  # metrics of the epoch so far, which Keras makes late and empties before each epoch
SECONDS_BETWEEN = 10.0  # two checkpoints
MIN_SAVE_INTERVAL_FACTOR = 20  # times as long as a save takes, at least, the fit runs between two


@dataclass(frozen=True)
class Checkpoint:
    """A file with the state of a fit: a SHA-256, and the npz archive that it is of.

    `belongs_to` is what the state depends on: it is of no use for another image, network or setting.
    """

    path: Path
    belongs_to: Mapping[str, Any]

    def save(self, epoch: int, batch: int, state: State) -> None:
        """Replaces the file, atomically; RunError where it cannot be written."""
        try:
            archive = _pack(epoch, batch, state, self.belongs_to)
            with replace_atomically(self.path) as unfinished:
                unfinished.write_bytes(hashlib.sha256(archive).digest() + archive)
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def load(self) -> tuple[int, int, State] | None:
        """The same as was saved, None where nothing was; RunError for a damaged file, or another fit's."""
        try:
            data = read_ordinary(self.path, most=MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror or error}") from error
        digest, archive = data[:DIGEST], data[DIGEST:]
        if hashlib.sha256(archive).digest() != digest:
            raise self.to_damage("its checksum is another one")
        epoch, batch, state, belongs_to = _unpack(archive)
        for name, value in json.loads(json.dumps(self.belongs_to)).items():
            if belongs_to.get(name) != value:
                raise RunError(
                    f"{self.path} was written with other {name}: restore them to continue, or delete it to "
                    f"start over. Received: {str(value)[:100]}, not {str(belongs_to.get(name))[:100]}"
                )
        return epoch, batch, state

    def to_damage(self, reason: str) -> RunError:
        """The error for a file that differs from what was saved."""
        return RunError(f"{self.path} is damaged ({reason}). Delete it and start the fit over with --resume.")


class CheckpointCallback(keras.callbacks.Callback):
    """Saves the state of a fit every few seconds, when a signal comes, and at its end.

    It must be the last of the callbacks, and ends the fit with `Stopped` after the batch in which a signal
    came. `epoch` counts the epochs that are finished, `batch` the finished batches of the next one.

    Args:
        batches: Training inputs, which it turns to each epoch.
        head: All that learns, with the state of its random layers.
        others: Callbacks whose state is saved, too.
        checkpoint: Where the state is saved, if anywhere.
        group: Processes that share the fit, if any: all start and stop after the same batch.
    """

    def __init__(
        self,
        batches: Batches,
        head: keras.Model,
        others: tuple[EpochLog, BestMembers],
        checkpoint: Checkpoint | None,
        group: ProcessGroup | None,
    ) -> None:
        super().__init__()
        self.epoch = self.batch = 0
        self._batches, self._head, self._others, self._checkpoint = batches, head, others, checkpoint
        self._group = group
        self._restored: State = {}
        self._saved, self._wait = time.monotonic(), SECONDS_BETWEEN

    def restore(self) -> None:
        """Continues from the checkpoint, if there is one."""
        found = self._checkpoint.load() if self._checkpoint else None
        if self._group:
            start = _pack(*(found or (0, 0, self._to_state())), {})
            found = _unpack(self._group.broadcast("start", start))[:3]
        if not found:
            return
        self.epoch, self.batch, state = found
        try:
            for name, variable in self._list_variables().items():
                variable.assign(state[name])
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
        # After the last batch of an epoch comes its validation, which cannot be resumed.
        if self.batch < self._batches.count_batches():
            self._save_if_due()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if number := self._find_stop():
            raise Stopped(number)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch, self.batch = epoch + 1, 0
        self._save_if_due()

    def save(self) -> None:
        """Writes the checkpoint, if there is one."""
        if self._checkpoint:
            started = time.monotonic()
            self._checkpoint.save(self.epoch, self.batch, self._to_state())
            self._saved = time.monotonic()
            self._wait = max(SECONDS_BETWEEN, MIN_SAVE_INTERVAL_FACTOR * (self._saved - started))

    def _save_if_due(self) -> None:
        number = self._find_stop()
        if number or time.monotonic() - self._saved >= self._wait:
            self.save()
        if number:
            raise Stopped(number)

    def _find_stop(self) -> int:
        return self._group.find_stop() if self._group else find_signal()

    def _to_state(self) -> State:
        model: Any = self.model
        variables = {**self._list_variables(), **_name(METRICS, model.metrics_variables)}
        # Copies, since JAX reuses its memory.
        state = {name: np.array(ops.convert_to_numpy(variable)) for name, variable in variables.items()}
        for other in self._others:
            state.update(other.to_state())
        return state

    def _list_variables(self) -> dict[str, Any]:
        """Of the head and of the optimiser."""
        model: Any = self.model
        return _name("head", self._head.variables) | _name("optimizer", model.optimizer.variables)


def _pack(epoch: int, batch: int, state: State, belongs_to: Mapping[str, Any]) -> bytes:
    """An npz archive of the arrays and of what else a fit continues with."""
    about = json.dumps({"belongs_to": belongs_to, "epoch": epoch, "batch": batch})
    arrays: dict[str, Any] = {ABOUT: np.frombuffer(about.encode(), np.uint8), **state}
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    return archive.getvalue()


def _unpack(archive: bytes) -> tuple[int, int, State, dict[str, Any]]:
    """What was given to `_pack`."""
    state = dict(np.load(io.BytesIO(archive)))
    about = json.loads(state.pop(ABOUT).tobytes())
    return int(about["epoch"]), int(about["batch"]), state, dict(about["belongs_to"])


def _name(group: str, variables: Sequence[Any]) -> dict[str, Any]:
    return {f"{group}_{index}": variable for index, variable in enumerate(variables)}
