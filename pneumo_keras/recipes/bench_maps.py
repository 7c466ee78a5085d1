"""The maps of a finished run, measured."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import logit

from pneumo_keras.arrays import Images
from pneumo_keras.bench.maps import Deletion, PointingGame, measure_deletion, play_pointing_game
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.data.phantom import PhantomFilms
from pneumo_keras.model.attribution import Explainer
from pneumo_keras.progress import show_progress
from pneumo_keras.recipes.explain import build_film_explainer
from pneumo_keras.recipes.films import open_splits
from pneumo_keras.recipes.own_films import check_unchanged, open_own_data
from pneumo_keras.runs.finished import load_run
from pneumo_keras.runs.folder import RunFolder

PHANTOMS, PHANTOM_SEED = 300, 12345  # films that no run is trained on
DELETED = 100  # validation films


@dataclass(frozen=True)
class MapQuality:
    """What was measured of a run's maps.

    Attributes:
        films: What the run was trained on, in words.
        deletion: On its validation films.
        pointing: On phantom films with pneumonia, where it was trained on such.
        pointing_called: Of these, on those that it calls pneumonia.
    """

    films: str
    deletion: Deletion
    pointing: PointingGame | None
    pointing_called: PointingGame | None


def measure_maps(folder: RunFolder, moved: str | None = None) -> MapQuality:
    """Measures the maps of a run. The test split is not opened.

    Args:
        folder: Of a finished run.
        moved: Where the run's films lie now, if they were moved.
    """
    run = load_run(folder)
    config, data = open_own_data(folder, run, moved)
    check_unchanged(run, config, data)
    explainer = build_film_explainer(folder)
    split = open_splits(data, ("val",))["val"]
    deletion = delete_from(split.films, explainer.explainer)
    if config.data.source != "phantom":
        return MapQuality(split.title, deletion, None, None)
    phantoms = PhantomFilms(PHANTOMS, config.data.size, PHANTOM_SEED)
    sick = np.flatnonzero(phantoms.labels)
    evidence, log_odds = explain_films(explainer.explainer, phantoms.read(sick), "phantom films")
    patches = phantoms.read_patches(sick)
    called = log_odds > logit(explainer.scorer.threshold)
    return MapQuality(
        split.title,
        deletion,
        play_pointing_game(evidence, patches),
        play_pointing_game(evidence[called], patches[called]) if called.any() else None,
    )


def delete_from(films: LabelledFilms, explainer: Explainer) -> Deletion:
    """Takes away what the maps of some pneumonia films show."""
    sick, normal = np.flatnonzero(films.labels == 1), np.flatnonzero(films.labels == 0)
    rows = sick[np.unique(np.linspace(0, len(sick) - 1, DELETED).round().astype(int))]
    images = films.read(rows)
    evidence, _ = explain_films(explainer, images, "validation films")
    return measure_deletion(
        images,
        evidence,
        films.read(normal).mean(axis=0),
        lambda changed: explain_films(explainer, changed, "changed films")[1],
    )


def explain_films(
    explainer: Explainer, films: Images, name: str
) -> tuple[Float64[np.ndarray, "n height width"], Float64[np.ndarray, " n"]]:
    """Maps and log odds of films."""
    evidence, log_odds = [], []
    with show_progress(f"Explaining {name}", len(films), "films") as progress:
        for film in films:
            explanation = explainer.explain(film)
            evidence.append(explanation.evidence.astype(np.float64))
            log_odds.append(explanation.base + evidence[-1].mean())
            progress.advance(1)
    return np.array(evidence), np.array(log_odds)
