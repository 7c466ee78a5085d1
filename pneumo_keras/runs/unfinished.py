"""Runs that are gone on with: what was asked of them, and what the finished ones found."""

from pneumo_keras.config import Config, find_changes
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.report_card import Judgement, Metrics, to_judgement
from pneumo_keras.runs.finished import load_settings
from pneumo_keras.runs.folder import RunFolder


def load_unfinished(folder: RunFolder, asked: Config | None) -> Config:
    """The settings of a run that was begun.

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
    stored = load_settings(folder)
    changes = {} if asked is None else find_changes(stored, asked)
    if changes:
        key, (then, now) = next(iter(changes.items()))
        raise RunError(
            f"{folder.path} was begun with other settings: {key} = {then}. Received: {now}. Leave --config "
            "and --set out to go on with it, or name another --run."
        )
    return stored


def load_stored_judgement(folder: RunFolder, split: str) -> Judgement:
    """The figures of a finished run.

    Raises:
        RunError: They are missing or damaged.
    """
    return to_judgement(folder.load_document(Metrics, f"metrics_{split}.json"))
