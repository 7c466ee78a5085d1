"""Where a fit stands, on disk: so that it can go on there as if nothing had happened."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_keras.errors import RunError
from pneumo_keras.storage.bounded_reading import load_member, read_ordinary
from pneumo_keras.storage.files import replace_whole

State = dict[str, np.ndarray]
"""Arrays by name: all that changes in a fit."""

NOTES = "notes"
DIGEST = 32  # bytes
MOST_BYTES = 1 << 34


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds how far a fit has come.

    Attributes:
        path: Of the file: a SHA-256, and the npz archive that it is of.
        belongs_to: What the state depends on: it is of no use for another image, network or setting.
    """

    path: Path
    belongs_to: Mapping[str, Any]

    def save(self, epoch: int, batch: int, state: State) -> None:
        """Replaces the file, whole or not at all.

        Args:
            epoch: Epochs that are finished.
            batch: Batches of the next one that are.
            state: All arrays.

        Raises:
            RunError: It cannot be written.
        """
        archive = pack(epoch, batch, state, self.belongs_to)
        try:
            with replace_whole(self.path) as beside, beside.open("wb") as file:
                file.write(hashlib.sha256(archive).digest())
                file.write(archive)
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def load(self) -> tuple[int, int, State] | None:
        """The same as was saved; None where nothing was.

        Raises:
            RunError: The file is damaged, or belongs to something else.
        """
        try:
            data = read_ordinary(self.path, most=MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror or error}") from error
        digest, archive = data[:DIGEST], memoryview(data)[DIGEST:]
        if hashlib.sha256(archive).digest() != digest:
            raise self.to_damage("it does not hold what was written")
        try:
            epoch, batch, state, belongs_to = unpack(archive)
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise self.to_damage(str(error) or type(error).__name__) from error
        for name, value in json.loads(json.dumps(self.belongs_to)).items():
            if belongs_to.get(name) != value:
                raise RunError(
                    f"{self.path} was written with other {name}: give them back to go on, or delete it to "
                    f"begin anew. Received: {str(value)[:100]}, not {str(belongs_to.get(name))[:100]}"
                )
        return epoch, batch, state

    def to_damage(self, reason: str) -> RunError:
        """The error for a file that holds something else than was saved."""
        return RunError(f"{self.path} is damaged ({reason}). Delete it to begin the fit anew with --resume.")


def pack(epoch: int, batch: int, state: State, belongs_to: Mapping[str, Any]) -> memoryview:
    """An npz archive of the arrays and of what else a fit goes on with."""
    notes = json.dumps({"belongs_to": belongs_to, "epoch": epoch, "batch": batch})
    archive = io.BytesIO()
    arrays: dict[str, Any] = {NOTES: np.frombuffer(notes.encode(), np.uint8), **state}
    np.savez(archive, **arrays)
    return archive.getbuffer()


def unpack(archive: bytes | memoryview) -> tuple[int, int, State, dict[str, Any]]:
    """What was given to `pack`.

    Raises:
        ValueError: It is something else; or any other error of zipfile, json and NumPy.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        names = [name.removesuffix(".npy") for name in members.namelist()]
        state = {name: load_member(members, name) for name in names}
    notes = json.loads(state.pop(NOTES).tobytes())
    return int(notes["epoch"]), int(notes["batch"]), state, dict(notes["belongs_to"])
