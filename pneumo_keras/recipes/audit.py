"""Films looked at before a training."""

from pneumo_keras.arrays import SPLITS
from pneumo_keras.audit.audit import Audit, audit_films
from pneumo_keras.config import Config, resolve_paths
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.recipes.films import open_data


def audit_data(config: Config) -> tuple[str, dict[str, LabelledFilms], Audit]:
    """Judges the films of every split.

    Returns:
        What they are, the films by split, and what was found.
    """
    data = open_data(resolve_paths(config))
    films = {split: data.open_split(split) for split in SPLITS}
    names = {split: data.name_images(split) for split in SPLITS}
    return data.card.title, films, audit_films(films, names)
