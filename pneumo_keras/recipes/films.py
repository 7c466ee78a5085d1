"""Which films a job works on."""

from collections.abc import Sequence

from pneumo_keras.config import Config, find_cache
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.data.sources import SOURCES, DataOptions, DataSet


def open_data(config: Config) -> DataSet:
    """The films that the settings name; no split is opened yet."""
    return SOURCES[config.data.source].open(to_options(config))


def load_splits(config: Config, splits: Sequence[str]) -> dict[str, LabelledFilms]:
    """The films of the asked splits; the others are not opened."""
    data = open_data(config)
    return {split: data.open_split(split) for split in splits}


def to_options(config: Config) -> DataOptions:
    """What the settings say of the films."""
    data = config.data
    return DataOptions(data.path, data.size, data.phantom_films, find_cache())
