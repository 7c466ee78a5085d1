"""The folder of a run: where everything lies, and that it appears whole or not at all."""

import csv
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras
from matplotlib.figure import Figure

from pneumo_keras.config import Config, format_config, load_config
from pneumo_keras.documents import parse_document, to_document
from pneumo_keras.errors import PneumoError, RunError
from pneumo_keras.files import format_csv, replace_whole, write_whole
from pneumo_keras.reporting.plots import save_plot

log = logging.getLogger("pneumo_keras")

T = TypeVar("T")
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@dataclass(frozen=True)
class RunFolder:
    """A run on disk."""

    path: Path

    @property
    def model_file(self) -> Path:
        """The whole classifier; there when the run is finished."""
        return self.path / "model.keras"

    def check_free(self) -> None:
        """Checks that nothing would be overwritten.

        Raises:
            RunError: The path is taken.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunError(
                f"--run must name a new or empty folder, since a run is never overwritten. {self.path} is "
                "taken: name another one, or delete it first."
            )

    def check_finished(self) -> None:
        """Checks that there is a run to read.

        Raises:
            RunError: There is no run, or an unfinished one.
        """
        if not (self.path / "config.toml").is_file():
            raise RunError(
                f"RUN must be the folder of a run, with a config.toml. {self.path} is none: train one with "
                f"pneumo-keras train --run {self.path}"
            )
        if not self.model_file.is_file():
            raise RunError(
                f"{self.path} holds a run that was not finished: it has no model.keras. Delete it and "
                "train again."
            )

    @contextmanager
    def writing(self, config: Config) -> Iterator[None]:
        """Opens the folder for a new run with its settings and its log.

        A run that fails for a reason that the user can mend leaves nothing behind.

        Raises:
            RunError: The path is taken, or cannot be made.
        """
        self.check_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_text("config.toml", format_config(config))
        except OSError as error:
            raise RunError(f"--run must name a folder that can be written. {self.path}: {error}") from error
        handler = logging.FileHandler(self.path / "train.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        try:
            yield
        except PneumoError:
            shutil.rmtree(self.path)
            raise
        finally:
            log.removeHandler(handler)
            handler.close()

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file of the run."""
        write_whole(self.path / name, text)

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run."""
        self.write_text(name, json.dumps(document, indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a CSV file of the run, with a header."""
        self.write_text(name, format_csv(rows))

    def write_plot(self, name: str, figure: Figure) -> None:
        """Writes `figures/<name>.png`."""
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        with replace_whole(folder / f"{name}.png") as beside:
            save_plot(figure, beside)

    def write_model(self, model: keras.Model) -> None:
        """Writes the whole classifier; the last file of a training."""
        with replace_whole(self.model_file) as beside:
            model.save(beside)

    def remove(self, pattern: str) -> None:
        """Removes files of an older evaluation."""
        for path in self.path.glob(pattern):
            path.unlink()

    def load_config(self) -> Config:
        """The settings the run was made with."""
        return load_config(str(self.path / "config.toml"))

    def load_json(self, name: str) -> dict[str, Any]:
        """Reads a JSON file of the run.

        Raises:
            RunError: It is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.path / name} is missing or damaged ({error}). Train or evaluate again."
            ) from error

    def write_document(self, name: str, value: object) -> None:
        """Writes a dataclass as a JSON file of the run."""
        self.write_json(name, to_document(value))

    def load_document(self, kind: type[T], name: str) -> T:
        """Reads a JSON file of the run as the dataclass it was written from.

        Raises:
            RunError: It is missing or damaged.
        """
        path = self.path / name
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{path} is missing or damaged ({error}). Train or evaluate again.") from error
        return parse_document(kind, text, name=str(path))

    def load_history(self) -> list[dict[str, float]]:
        """`history.csv`, a row an epoch."""
        with (self.path / "history.csv").open(newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
