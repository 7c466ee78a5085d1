"""Files that settings name, and the folder of the cache."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs

from pneumo_keras.config.settings import Config
from pneumo_keras.config.toml import change_config, parse_overrides, show
from pneumo_keras.errors import SettingsError


def find_cache() -> Path:
    """Where features and prepared data sets are kept: `PNEUMO_KERAS_CACHE`, or the user's cache."""
    named = os.environ.get("PNEUMO_KERAS_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("pneumo-keras"))


def list_paths(config: Config) -> dict[str, str]:
    """The absolute paths of the files that the settings name, by dotted key.

    Raises:
        SettingsError: A path begins with `~` and a name that is not a user's.
    """
    return {key: _to_absolute(key, path) for key, path in _list_written(config).items()}


def resolve_paths(config: Config, noted: Mapping[str, str] | None = None) -> Config:
    """The settings with absolute paths: to work with, not to write into the run folder.

    Args:
        config: As the user wrote it.
        noted: Paths that `list_paths` found when the run was made; they take precedence.

    Raises:
        SettingsError: See `list_paths`.
    """
    return change_config(config, {**list_paths(config), **(noted or {})})


def find_moved_data(overrides: Iterable[str]) -> str | None:
    """Where the images of a finished run are now, by `data.path=...`; None without that.

    Raises:
        SettingsError: Another setting is named, or the value is not a path.
    """
    moved = None
    for key, value in parse_overrides(overrides):
        if key != "data.path":
            raise SettingsError(
                "--set takes only data.path for a finished run, where its images are now: its other "
                f"settings stay. Received: {key}"
            )
        moved = _to_absolute(key, value)
    return moved


def name_files(config: Config) -> Config:
    """The settings with the names of files alone, for a report that leaves this machine."""
    return change_config(config, {key: Path(path).name for key, path in _list_written(config).items()})


def forget_process(config: Config) -> Config:
    """The settings without what differs from process to process of a training that several share."""
    return change_config(config, {"compute.coordinator": None, "compute.rank": None})


def _list_written(config: Config) -> dict[str, str]:
    written = {}
    if config.data.path is not None:
        written["data.path"] = str(config.data.path)
    if config.model.weights not in ("imagenet", "none"):
        written["model.weights"] = config.model.weights
    if config.compute.store and "://" not in config.compute.store:
        written["compute.store"] = config.compute.store
    return written


def _to_absolute(key: str, path: str) -> str:
    try:
        if not path:
            raise ValueError("it is empty")
        return str(Path(path).expanduser().resolve())
    except (RuntimeError, ValueError) as error:  # no such user, links that form a circle
        raise SettingsError(f"Setting '{key}' must be a path. Received: {show(path)}: {error}") from error
