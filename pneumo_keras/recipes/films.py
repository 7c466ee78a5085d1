"""Which films a job works on."""

import logging
from collections.abc import Sequence

from pneumo_keras.arrays import SPLITS
from pneumo_keras.audit.audit import Audit, audit_films
from pneumo_keras.config import Config, find_cache, resolve_paths
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.data.phantom import build_phantom_films
from pneumo_keras.data.pneumonia_mnist import load_pneumonia_mnist

log = logging.getLogger("pneumo_keras")

PHANTOM_SEEDS = {"train": 0, "val": 1, "test": 2}


def load_splits(config: Config, splits: Sequence[str]) -> dict[str, LabelledFilms]:
    """The films of the asked splits; the others are not opened."""
    data = config.data
    if data.source == "pneumonia_mnist":
        return load_pneumonia_mnist(splits, size=data.size, path=data.path, cache=find_cache())
    counts = dict(zip(PHANTOM_SEEDS, data.phantom_films, strict=True))
    log.info("The films are %s", name_films(config))
    return {
        split: build_phantom_films(counts[split], size=data.size, seed=PHANTOM_SEEDS[split])
        for split in splits
    }


def name_films(config: Config) -> str:
    """What the films are, for people; synthetic ones are called that."""
    names = {"pneumonia_mnist": "PneumoniaMNIST", "phantom": "synthetic phantoms"}
    return f"{names[config.data.source]}, {config.data.size} px"


def audit_data(config: Config) -> tuple[dict[str, LabelledFilms], Audit]:
    """Judges the films of every split before a training."""
    films = load_splits(resolve_paths(config), SPLITS)
    return films, audit_films(films)
