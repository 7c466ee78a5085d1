"""Grids: lists of values for some settings, for a sweep over all combinations."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pneumo_keras.config import Config, change_config
from pneumo_keras.config.toml import find_toml, load_toml, shorten, show
from pneumo_keras.errors import SettingsError

Grid = Mapping[str, Sequence[Any]]
"""Values by dotted key."""

# Seed, images and machine are not compared.
SWEPT = ("model.", "training.", "augmentation.")
FITTED_TOGETHER = ("training.learning_rate", "training.weight_decay")
LIMIT = 10_000  # hours, at a second each
FIXED = ("training.mode", "training.members", "training.unfreeze_from", "model.weights")


def load_grid(name_or_path: str) -> Grid:
    """Reads a grid: a TOML file with the tables of a configuration and a list for each setting.

    Raises:
        SettingsError: There is no such grid, a setting cannot be swept over, or has no list of values.
    """
    path = find_toml(name_or_path, folder="configs/grids", option="--grid")
    grid = {
        f"{table}.{name}": values
        for table, settings in load_toml(path).items()
        for name, values in (settings.items() if isinstance(settings, dict) else [("", settings)])
    }
    for key, values in grid.items():
        if not key.startswith(SWEPT) or key in FIXED:
            raise SettingsError(
                f"A sweep is over settings of model, training and augmentation, without {', '.join(FIXED)}. "
                f"Received: {shorten(key.rstrip('.'))} in {path}"
            )
        if not isinstance(values, list) or not values:
            raise SettingsError(f"{path} must have a list of values for {key}. Received: {show(values)}")
    combinations = math.prod(map(len, grid.values())) if grid else 0
    if not 0 < combinations <= LIMIT:
        raise SettingsError(f"{path} must have 1 to {LIMIT:,} combinations. Received: {combinations:,}")
    return grid


def group_combinations(
    config: Config, grid: Grid, *, at_once: int
) -> list[tuple[Config, list[dict[str, Any]]]]:
    """All combinations, in groups of at most `at_once` that can be fitted at the same time.

    For each group the configuration that it shares, and the values of its combinations, which differ only in
    the keys of `FITTED_TOGETHER`.

    Raises:
        SettingsError: A setting is unknown, ill-typed or out of range, or two do not go together.
    """
    groups: dict[Config, list[dict[str, Any]]] = {}
    for values in itertools.product(*grid.values()):
        combination = dict(zip(grid, values, strict=True))
        change_config(config, combination)
        apart = {key: value for key, value in combination.items() if key not in FITTED_TOGETHER}
        groups.setdefault(change_config(config, apart), []).append(combination)
    return [
        (shared, combinations[start : start + at_once])
        for shared, combinations in groups.items()
        for start in range(0, len(combinations), at_once)
    ]
