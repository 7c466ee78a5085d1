"""Runs that are resumed: their settings, and the figures of those that turn out to be finished."""

from collections.abc import Mapping
from dataclasses import dataclass

from pneumo_keras.config import Config, find_changes, list_paths, parse_config
from pneumo_keras.errors import RunError, SettingsError
from pneumo_keras.evaluation.report_card import Evaluation, Metrics, to_evaluation
from pneumo_keras.runs.folder import SETTINGS, UNFINISHED, RunFolder
from pneumo_keras.runs.run import load_settings
from pneumo_keras.storage.bounded_reading import read_text
from pneumo_keras.storage.documents import parse_document

FILES = ("data.path", "model.weights")
"""Settings of files that may have moved meanwhile: what they hold is compared."""


@dataclass(frozen=True)
class UnfinishedRun:
    """`unfinished.json`.

    Attributes:
        settings: As TOML, the same as in `config.toml`.
        paths: Where the files lay that they name, by dotted key.
    """

    settings: str
    paths: dict[str, str]


def load_unfinished(folder: RunFolder, asked: Config | None) -> tuple[Config, Mapping[str, str]]:
    """The settings of a run that was begun, and where the files lie that they name.

    Args:
        folder: Of the run.
        asked: Settings that the user names again, if any.

    Raises:
        RunError: There is no such run, its settings are damaged, or the user names others.
    """
    if not folder.is_begun():
        raise RunError(
            f"--resume goes on with a run that was begun. Received: {folder.path}, which holds none. Begin "
            "one with --config."
        )
    path = folder.path / UNFINISHED
    try:
        begun = parse_document(UnfinishedRun, read_text(path), name=str(path))
        config = parse_config(begun.settings, name=str(path))
        written = folder.path / SETTINGS
        if written.exists() and read_text(written) != begun.settings:
            raise RunError(
                f"{written} must hold the settings that {UNFINISHED} holds: one of them was damaged or "
                "changed. Train into another folder."
            )
    except (OSError, UnicodeDecodeError, SettingsError) as error:
        raise RunError(f"{path} cannot be read: {error}. Train into another folder.") from error
    return config, {**begun.paths, **_find_moved(folder, config, asked)}


def load_stored_evaluation(folder: RunFolder, split: str, asked: Config | None) -> Evaluation:
    """The figures of a finished run.

    Args:
        folder: Of the run.
        split: Of which.
        asked: Settings that the user names again, if any.

    Raises:
        RunError: A file of the run is missing or damaged, or the user names other settings.
    """
    folder.verify_all()
    _find_moved(folder, load_settings(folder), asked)
    return to_evaluation(folder.load_document(Metrics, f"metrics_{split}.json"))


def _find_moved(folder: RunFolder, config: Config, asked: Config | None) -> dict[str, str]:
    """Where files lie that have moved, by dotted key; all other settings must be those of the run."""
    if asked is None:
        return {}
    changes = find_changes(config, asked)
    for key, (then, now) in changes.items():
        if key not in FILES:
            raise RunError(
                f"{folder.path} has other settings: {key} = {then}. Received: {now}. Leave --config and "
                "--set out, or name another --run."
            )
    return {key: path for key, path in list_paths(asked).items() if key in changes}
