"""The folder of a run: one writer, files that appear whole, and a manifest of what they hold."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pneumo_keras.config import Config, format_config
from pneumo_keras.errors import PneumoError, RunError
from pneumo_keras.runs.log_file import write_log
from pneumo_keras.runs.manifest import AGAIN, extend_manifest, load_manifest, verify_file
from pneumo_keras.runs.manifest import NAME as MANIFEST
from pneumo_keras.runtime.invocation import to_command
from pneumo_keras.storage.bounded_reading import read_text
from pneumo_keras.storage.documents import parse_document, to_document
from pneumo_keras.storage.files import (
    check_free,
    check_within,
    claim_folder,
    format_csv,
    is_claimed,
    replace_whole,
)

log = logging.getLogger("pneumo_keras")

OTHER_IMAGES = "data"
"""Folder within that of a run for what it does on other images."""

SETTINGS, MODEL, LOG = "config.toml", "model.keras", "train.log"
OOD_DETECTOR = "ood_detector.npz"
"""What tells images that are outside the range of the training images."""
NORMAL_IMAGES = "normal_images.npz"
"""Normal images that others are compared with to be explained."""
SEEN_IMAGES = "seen_images.npy"
"""Hashes of the training and validation images."""

UNFINISHED = "unfinished.json"
"""Settings and paths of a training, until it is finished."""

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class RunFolder:
    """A run on disk; see `finished.load_run` for all that it holds.

    What is read of it is compared with its manifest, which a training or an evaluation extends when all of
    its files are there.

    Attributes:
        path: Of the folder.
        run: Folder of the run that it is a part of; None where it is the run itself.
    """

    path: Path
    run: Path | None = None
    _written: list[Path] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def checkpoint_file(self) -> Path:
        """Where the fit of an unfinished run stands; no part of a finished one."""
        return self.path / "checkpoint"

    @property
    def tuning_checkpoint_file(self) -> Path:
        """The same of the fit of unfrozen blocks, which goes on from the other one."""
        return self.path / "checkpoint_tuning"

    def to_evaluation(self, name: str) -> "RunFolder":
        """The folder for what the run does on other images: an evaluation like that of a run.

        Raises:
            RunError: A link leads from there to elsewhere.
        """
        folder = RunFolder(self.path / OTHER_IMAGES / name, run=self.path)
        folder.check_own(SETTINGS)
        return folder

    def holds(self, name: str) -> bool:
        """Whether a finished training or evaluation left a file of that name.

        Raises:
            RunError: The manifest is damaged.
        """
        return name in load_manifest(self.path)

    def is_finished(self) -> bool:
        """Whether all of a training is there."""
        return self.holds(MODEL)

    def is_begun(self) -> bool:
        """Whether a training began here and has not come to its end."""
        return (self.path / UNFINISHED).is_file() and not self.is_finished()

    def verify(self, name: str) -> Path:
        """The path of a file of the run, once it holds what was written.

        Raises:
            RunError: It does not, or is missing.
        """
        return verify_file(self.path, name)

    def verify_all(self, *, may_lack: bool = False) -> None:
        """Checks that every file that the manifest names holds what was written.

        Args:
            may_lack: Whether files may have been deleted.

        Raises:
            RunError: One does not, or is missing.
        """
        for name in load_manifest(self.path):
            if not may_lack or (self.path / name).exists():
                self.verify(name)

    def check_settings(self) -> None:
        """Checks that there is a run to read, or its evaluation on other images.

        Raises:
            RunError: There is neither.
        """
        if not (self.path / SETTINGS).is_file():
            raise RunError(
                f"RUN must be the folder of a run, with a config.toml. {self.path} is none: train one with "
                f"{to_command('train', '--run', self.path)}"
            )

    def check_finished(self) -> None:
        """Checks that there is a run with all that a training leaves.

        Raises:
            RunError: There is no run, an unfinished one, or only the evaluation of one.
        """
        self.check_settings()
        if self.is_finished():
            return
        if self.is_begun():
            raise self._to_unfinished()
        run = self.path.resolve().parent.parent
        if self.path.resolve().parent.name == OTHER_IMAGES and RunFolder(run).is_finished():
            raise RunError(
                f"RUN must be the folder of a run. {self.path} holds what {run} did on other images: name "
                "that one."
            )
        raise RunError(
            f"{self.path} is no finished run: it must have a {MANIFEST} that names {MODEL}. It may be of an "
            "earlier version, or only a part of a run. Train into another folder."
        )

    def check_evaluated(self) -> None:
        """Checks that there is a run that was not stopped, or its evaluation on other images.

        Raises:
            RunError: There is neither.
        """
        self.check_settings()
        if self.is_begun():
            raise self._to_unfinished()

    def check_free(self) -> None:
        """Checks that a new run may be written here.

        Raises:
            RunError: There is a run, or anything else.
        """
        if self.path.is_dir() and self.is_begun():
            raise self._to_unfinished()
        check_free(self.path, option="--run")

    def check_own(self, name: str) -> None:
        """Checks that a file of the run would be written into it, and not through a link to elsewhere.

        Args:
            name: Below the folder.

        Raises:
            RunError: It, or a folder on the way to it, is a link.
        """
        check_within(self.run or self.path, self.path / name)

    @contextmanager
    def writing(self, config: Config, paths: Mapping[str, str], *, resume: bool = False) -> Iterator[None]:
        """Opens the folder for a run with its settings, as the user wrote them, and its log.

        A new run that fails for a reason that the user can mend, before its fit has come to a checkpoint,
        leaves nothing behind. What is stopped or fails later can be resumed.

        Args:
            config: The settings.
            paths: Where the files lie that they name.
            resume: Whether to go on with a run that was begun here.

        Raises:
            RunError: The path is taken, or cannot be made.
        """
        if not resume:
            self.check_free()
        with claim_folder(self.path, option="--run", may_hold=self._may_hold if resume else None):
            try:
                text = format_config(config)
                self.write_json(UNFINISHED, {"settings": text, "paths": dict(paths)})
                self.write_text(SETTINGS, text)
                self.check_own(LOG)
                with write_log(self.path / LOG):
                    yield
                    self.seal()
                self.clear()
            except (PneumoError, OSError):
                if not resume and not self.checkpoint_file.exists():
                    self._remove_written()
                raise

    def seal(self) -> None:
        """Notes in the manifest what was written, now that all of it is there.

        Raises:
            RunError: It cannot be written.
        """
        self.check_own(MANIFEST)
        names = {path.relative_to(self.path).as_posix() for path in self._written}
        extend_manifest(self.path, names - {UNFINISHED})

    def clear(self) -> None:
        """Removes what only an unfinished run needs."""
        for path in (self.checkpoint_file, self.tuning_checkpoint_file, self.path / UNFINISHED):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be removed (%s): delete it", path, error.strerror)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file of the run, UTF-8, line ends as they are."""
        self.write_with(name, lambda file: file.write_text(text, encoding="utf-8", newline=""))

    def write_json(self, name: str, document: object) -> None:
        """Writes a mapping or a dataclass as a JSON file of the run."""
        self.write_text(name, json.dumps(to_document(document), indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a CSV file of the run, with a header."""
        self.write_text(name, format_csv(rows))

    def write_with(self, name: str, save: Callable[[Path], object]) -> None:
        """Writes a file of the run by a function that is given a path with the same ending.

        Args:
            name: Below the folder: `model.keras`, `figures/summary.png`.
            save: Writes to the path it is given.

        Raises:
            RunError: It cannot be written, or a link leads to elsewhere.
        """
        path = self.path / name
        self.check_own(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_whole(path) as beside:
                save(beside)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
        self._written.append(path)

    def remove(self, pattern: str) -> None:
        """Removes files of an older evaluation.

        Raises:
            RunError: They cannot be removed.
        """
        for path in self.path.glob(pattern):
            try:
                path.unlink()
            except OSError as error:
                raise RunError(f"{path} cannot be removed: {error.strerror or error}") from error

    def load_document(self, kind: type[Kind], name: str) -> Kind:
        """Reads a JSON file of the run.

        Raises:
            RunError: It is missing, damaged or not of that kind.
        """
        return parse_document(kind, self.read_text(name), name=str(self.path / name))

    def read_text(self, name: str) -> str:
        """The text of a file of the run.

        Raises:
            RunError: It is missing, damaged or no text.
        """
        path = self.verify(name)
        try:
            return read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{path} cannot be read: {error}. {AGAIN}") from error

    def _may_hold(self, path: Path) -> bool:
        return self.is_begun()

    def _to_unfinished(self) -> RunError:
        if is_claimed(self.path):
            return RunError(f"{self.path} holds a run that is being trained: wait until it is finished.")
        return RunError(
            f"{self.path} holds a run that was not finished. Go on with it: "
            f"{to_command('train', '--run', self.path, '--resume')}, or delete it."
        )

    def _remove_written(self) -> None:
        """Only what this run wrote, and quietly: the reason for it is on its way to the user."""
        for path in [*self._written, self.path / MANIFEST, self.path / LOG]:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        for folder in {path.parent for path in self._written} - {self.path}:
            with suppress(OSError):
                folder.rmdir()
