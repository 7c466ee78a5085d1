"""A finished run read whole, so that nothing of it is replaced before all of it was checked."""

import csv
import io
from dataclasses import dataclass
from typing import Any

from pneumo_keras.config import Config, load_config
from pneumo_keras.errors import RunError, SettingsError
from pneumo_keras.evaluation.calibration import Calibration
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.runs.folder import SETTINGS, RunFolder

CURVES = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "kept"}


@dataclass(frozen=True)
class FinishedRun:
    """What a training left for those that come after it.

    Attributes:
        config: The settings, as the user wrote them; `environment` has the resolved paths.
        operating_point: From which score on a film is called pneumonia.
        calibration: What the scores mean.
        history: A row an epoch.
        environment: What the run was made with.
    """

    config: Config
    operating_point: OperatingPoint
    calibration: Calibration
    history: list[dict[str, float]]
    environment: dict[str, Any]


def load_run(folder: RunFolder) -> FinishedRun:
    """Reads and checks everything of a run but its model.

    Raises:
        RunError: There is no finished run, or one of its files is missing or damaged; it is named.
    """
    folder.check_finished()
    return FinishedRun(
        config=load_settings(folder),
        operating_point=folder.load_document(OperatingPoint, "operating_point.json"),
        calibration=folder.load_document(Calibration, "calibration.json"),
        history=_load_history(folder),
        environment=folder.load_document(dict, "environment.json"),
    )


def load_settings(folder: RunFolder) -> Config:
    """The settings of a run, as the user wrote them.

    Raises:
        RunError: They are damaged.
    """
    path = folder.verify(SETTINGS) if folder.holds(SETTINGS) else folder.path / SETTINGS
    try:
        return load_config(str(path))
    except SettingsError as error:
        raise RunError(f"{path} is damaged, or of another version. {error}") from error


def _load_history(folder: RunFolder) -> list[dict[str, float]]:
    rows = list(csv.DictReader(io.StringIO(folder.read_text("history.csv"))))
    try:
        history = [{name: float(value) for name, value in row.items()} for row in rows]
    except (TypeError, ValueError) as error:
        raise RunError(f"{folder.path / 'history.csv'} must hold numbers: {error}. Train again.") from error
    if not history or not history[0].keys() >= CURVES:
        raise RunError(
            f"{folder.path / 'history.csv'} must have a row an epoch, with {', '.join(sorted(CURVES))}. "
            f"Received: {len(history)} rows. Train again."
        )
    return history
