"""The maps of a finished run, measured."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import logit

from pneumo_keras.arrays import Images
from pneumo_keras.bench.maps import Deletion, PointingGame, measure_deletion, play_pointing_game
from pneumo_keras.data.images import LabelledImages
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.model.attribution import Explainer
from pneumo_keras.recipes.explain import build_image_explainer
from pneumo_keras.recipes.images import open_own_data, open_splits
from pneumo_keras.runs.run import Run
from pneumo_keras.runtime.progress import show_progress

PHANTOMS, PHANTOM_SEED = 300, 12345  # images that no run is trained on
DELETED = 100  # validation images


@dataclass(frozen=True)
class MapQuality:
    """What was measured of a run's maps.

    Attributes:
        images: What the run was trained on, in words.
        deletion: On its validation images.
        pointing: On phantom images with pneumonia, where it was trained on such.
        pointing_called: Of these, on those that it calls pneumonia.
    """

    images: str
    deletion: Deletion
    pointing: PointingGame | None
    pointing_called: PointingGame | None


def measure_maps(run: Run, moved: str | None = None) -> MapQuality:
    """Measures the maps of a run. The test split is not opened.

    Args:
        run: All of it.
        moved: Where the run's images lie now, if they were moved.
    """
    config, data = open_own_data(run, moved)
    explainer = build_image_explainer(run)
    split = open_splits(data, ("val",))["val"]
    deletion = delete_from(split.images, explainer.explainer)
    if config.data.source != "phantom":
        return MapQuality(split.title, deletion, None, None)
    phantoms = PhantomImages(PHANTOMS, config.data.size, PHANTOM_SEED)
    sick = np.flatnonzero(phantoms.labels)
    evidence, log_odds = explain_images(explainer.explainer, phantoms.read(sick), "phantom images")
    patches = phantoms.read_patches(sick)
    called = log_odds > logit(explainer.scorer.threshold)
    return MapQuality(
        split.title,
        deletion,
        play_pointing_game(evidence, patches),
        play_pointing_game(evidence[called], patches[called]) if called.any() else None,
    )


def delete_from(source: LabelledImages, explainer: Explainer) -> Deletion:
    """Takes away what the maps of some pneumonia images show."""
    sick, normal = np.flatnonzero(source.labels == 1), np.flatnonzero(source.labels == 0)
    rows = sick[np.unique(np.linspace(0, len(sick) - 1, DELETED).round().astype(int))]
    images = source.read(rows)
    evidence, _ = explain_images(explainer, images, "validation images")
    return measure_deletion(
        images,
        evidence,
        source.read(normal).mean(axis=0),
        lambda changed: explain_images(explainer, changed, "changed images")[1],
    )


def explain_images(
    explainer: Explainer, images: Images, name: str
) -> tuple[Float64[np.ndarray, "n height width"], Float64[np.ndarray, " n"]]:
    """Maps and log odds of images."""
    evidence, log_odds = [], []
    with show_progress(f"Explaining {name}", len(images), "images") as progress:
        for image in images:
            explanation = explainer.explain(image)
            evidence.append(explanation.evidence.astype(np.float64))
            log_odds.append(explanation.base + evidence[-1].mean())
            progress.advance(1)
    return np.array(evidence), np.array(log_odds)
