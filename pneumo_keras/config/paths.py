"""Files that settings name, and where the package keeps its own."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs

from pneumo_keras.config.settings import Config
from pneumo_keras.config.toml import change_config, parse_overrides
from pneumo_keras.config.wording import show
from pneumo_keras.errors import SettingsError


def find_cache() -> Path:
    """Where features and prepared data sets are kept: `PNEUMO_KERAS_CACHE`, or the user's cache."""
    named = os.environ.get("PNEUMO_KERAS_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("pneumo-keras"))


def list_paths(config: Config) -> dict[str, str]:
    """The files that the settings name, absolute from the working folder, by dotted key.

    Raises:
        SettingsError: A path begins with `~` and a name that is no user's.
    """
    return {key: _to_absolute(key, path) for key, path in _list_written(config).items()}


def resolve_paths(config: Config, paths: Mapping[str, str] | None = None) -> Config:
    """The settings with absolute paths, for the work; what is written down keeps the user's own.

    Args:
        config: As the user wrote it.
        paths: What `list_paths` found when the run was made, so that it finds its files from any
            working folder.

    Raises:
        SettingsError: See `list_paths`.
    """
    noted = paths or {}
    absolute = {
        key: noted[key] if key in noted else _to_absolute(key, path)
        for key, path in _list_written(config).items()
    }
    return change_config(config, absolute)


def find_moved_data(overrides: Iterable[str]) -> str | None:
    """Where the images of a finished run lie now, by `data.path=...`; None where nothing is said.

    Raises:
        SettingsError: Another setting is named, or it is no path.
    """
    moved = None
    for key, value in parse_overrides(overrides):
        if key != "data.path":
            raise SettingsError(
                "--set takes data.path alone for a finished run, where its images lie now: its other "
                f"settings stay. Received: {key}"
            )
        moved = value
    return moved if moved is None else _to_absolute("data.path", moved)


def name_files(config: Config) -> Config:
    """The settings with the names of files alone, for a report that leaves this machine."""
    return change_config(config, {key: Path(path).name for key, path in _list_written(config).items()})


def forget_place(config: Config) -> Config:
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
    if not path:
        raise _to_refusal(key, path, "nothing is named")
    try:
        absolute = Path(path).expanduser().resolve()
    except RuntimeError as error:  # no such user, or links that lead in a circle
        raise _to_refusal(key, path, str(error)) from error
    try:
        absolute.exists()
        os.fspath(absolute).encode()
    except (OSError, UnicodeEncodeError) as error:  # a name too long, a closed folder, undecodable bytes
        raise _to_refusal(key, path, str(error)) from error
    return str(absolute)


def _to_refusal(key: str, path: str, reason: str) -> SettingsError:
    return SettingsError(f"Setting '{key}' must be a path. Received: {show(path)}: {reason}")
