"""Films judged before a training."""

from pneumo_keras.arrays import SPLITS
from pneumo_keras.audit.audit import Audit, audit_films
from pneumo_keras.config import Config
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.data.sources import DataCard
from pneumo_keras.recipes.films import open_data


def audit_data(config: Config) -> tuple[DataCard, dict[str, LabelledFilms], Audit]:
    """What the films are, the films of every split, and what was found in them."""
    data = open_data(config)
    films = {split: data.open_split(split) for split in SPLITS}
    return data.card, films, audit_films(films)
