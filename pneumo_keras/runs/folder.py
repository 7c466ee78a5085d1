"""The folder of a run: one writer, files that appear whole, and nothing left of a run that failed."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pneumo_keras.config import Config, format_config
from pneumo_keras.documents import parse_document, to_document
from pneumo_keras.errors import PneumoError, RunError
from pneumo_keras.files import claim_folder, format_csv, replace_whole
from pneumo_keras.ordinary_files import read_text
from pneumo_keras.printable import PrintableFormatter

log = logging.getLogger("pneumo_keras")

OTHER_FILMS = "data"
"""Folder within that of a run for what it does on other films."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class RunFolder:
    """A run on disk; see `finished.load_run` for all that it holds."""

    path: Path
    _written: list[Path] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def model_file(self) -> Path:
        """The whole classifier; there when the run is finished."""
        return self.path / "model.keras"

    @property
    def guard_file(self) -> Path:
        """What tells films that are unlike the training films."""
        return self.path / "guard.npz"

    @property
    def normal_films_file(self) -> Path:
        """Normal films that others are compared with to be explained."""
        return self.path / "normal_films.npz"

    @property
    def seen_films_file(self) -> Path:
        """Hashes of the training and validation films."""
        return self.path / "seen_films.npy"

    def to_evaluation(self, name: str) -> "RunFolder":
        """The folder for what the run does on other films: an evaluation like that of a run."""
        return RunFolder(self.path / OTHER_FILMS / name)

    def check_settings(self) -> None:
        """Checks that there is a run to read, or its evaluation on other films.

        Raises:
            RunError: There is neither.
        """
        if not (self.path / "config.toml").is_file():
            raise RunError(
                f"RUN must be the folder of a run, with a config.toml. {self.path} is none: train one with "
                f"pneumo-keras train --run {self.path}"
            )

    def check_finished(self) -> None:
        """Checks that there is a run with all that a training leaves.

        Raises:
            RunError: There is no run, an unfinished one, or only the evaluation of one.
        """
        self.check_settings()
        if not self.model_file.is_file():
            place = self.path.resolve().parent
            if place.name == OTHER_FILMS and RunFolder(place.parent).model_file.is_file():
                raise RunError(
                    f"RUN must be the folder of a run. {self.path} holds what {place.parent} did on other "
                    "films: name that one."
                )
            raise RunError(
                f"{self.path} holds a run that was not finished: it has no model.keras. Delete it and "
                "train again."
            )

    @contextmanager
    def writing(self, config: Config) -> Iterator[None]:
        """Opens the folder for a new run with its settings, as the user wrote them, and its log.

        A run that is stopped, or fails for a reason that the user can mend, leaves nothing behind.

        Raises:
            RunError: The path is taken, or cannot be made.
        """
        with claim_folder(self.path, option="--run"):
            try:
                self.write_text("config.toml", format_config(config))
                with self._writing_log():
                    yield
            except (PneumoError, KeyboardInterrupt):
                self._remove_written()
                raise

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
            RunError: It cannot be written.
        """
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_whole(path) as beside:
                save(beside)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
        self._written.append(path)

    def remove(self, pattern: str) -> None:
        """Removes files of an older evaluation."""
        for path in self.path.glob(pattern):
            path.unlink()

    def load_document(self, kind: type[Kind], name: str) -> Kind:
        """Reads a JSON file of the run.

        Raises:
            RunError: It is missing, damaged or not of that kind.
        """
        return parse_document(kind, self.read_text(name), name=str(self.path / name))

    def read_text(self, name: str) -> str:
        """The text of a file of the run.

        Raises:
            RunError: It is missing or no text.
        """
        path = self.path / name
        try:
            return read_text(path)
        except FileNotFoundError as error:
            raise RunError(f"{path} is missing. Train or evaluate again.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{path} cannot be read: {error}. Train or evaluate again.") from error

    @contextmanager
    def _writing_log(self) -> Iterator[None]:
        file = self.path / "train.log"
        handler = logging.FileHandler(file, encoding="utf-8")
        self._written.append(file)
        handler.setFormatter(PrintableFormatter(LOG_FORMAT))
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)
            handler.close()

    def _remove_written(self) -> None:
        """Only what this run wrote, and quietly: the reason for it is on its way to the user."""
        for path in self._written:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        for folder in {path.parent for path in self._written} - {self.path}:
            with suppress(OSError):
                folder.rmdir()
