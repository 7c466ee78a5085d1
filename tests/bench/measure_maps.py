"""Whether the maps of `explain` show what they claim to, for a run: the figures of docs/benchmarks.md.

python -m tests.bench.measure_maps RUN

How much log odds of validation images with pneumonia change when the tenth of an image where its map is
highest is replaced by an average normal image, and the same for other tenths; for a run on phantom images
also how often the highest point lies on an opacity. The test split is not opened.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.special import logit
from tabulate import tabulate

DENSE = 0.25  # of the densest place of an image's opacities: what is denser counts as opacity
BLOB = 0.08  # standard deviation of random blobs, as a share of the image's edge: as smooth as maps are
PHANTOMS, PHANTOM_SEED = 300, 12345  # images that no run is trained on
DELETED = 100  # validation images


@dataclass(frozen=True)
class PointingGame:
    """How often a map's highest point lies on an opacity, how often a random one, among how many images."""

    images: int
    hits: float
    chance: float


def play_pointing_game(evidence, patches):
    """Compares maps (n, height, width) with the densities of known opacities.

    References:
        Zhang, J. et al. (2016). Top-down neural attention by excitation backprop. ECCV: the pointing game,
        with a tolerance, here of a pixel.
    """
    opacities = patches >= DENSE * patches.max(axis=(1, 2), keepdims=True)
    near = np.array([binary_dilation(one) for one in opacities]).reshape(len(patches), -1)
    highest = evidence.reshape(len(evidence), -1).argmax(axis=1)
    return PointingGame(len(near), near[np.arange(len(near)), highest].mean(), near.mean())


def measure_deletion(images, evidence, fill, compute_log_odds, share=0.1, seed=0):
    """Mean change of log odds and its standard error where a share of images is replaced, by what chose it.

    Args:
        images: Of pneumonia, in an order that has nothing to do with what they show.
        evidence: A map of each.
        fill: An average normal image.
        compute_log_odds: Of images.
        share: Of each image that is replaced.
        seed: Of the random blobs.

    References:
        Petsiuk, V. et al. (2018). RISE. BMVC: deletion.
    """
    noise = np.random.default_rng(seed).normal(size=evidence.shape)
    chosen_by = {
        "its own map": evidence,
        "another image's map": np.roll(evidence, len(images) // 2, axis=0),
        "random blobs": gaussian_filter(noise, (0, *(BLOB * edge for edge in evidence.shape[1:]))),
    }
    before = compute_log_odds(images)
    changes = {}
    for name, planes in chosen_by.items():
        changed = np.where(choose_highest(planes, share), fill.round(), images).astype(np.uint8)
        change = compute_log_odds(changed) - before
        changes[name] = change.mean(), change.std(ddof=1) / np.sqrt(len(images))
    return changes


def choose_highest(planes, share):
    """Which pixels of each plane are among the share with its highest values."""
    flat = planes.reshape(len(planes), -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, : round(share * flat.shape[1])]
    chosen = np.zeros(flat.shape, bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen.reshape(planes.shape)


def explain_images(explainer, images):
    """Maps and log odds of images."""
    explanations = list(explainer.explain(images))
    evidence = np.array([one.evidence.astype(float) for one in explanations])
    return evidence, np.array([one.base for one in explanations]) + evidence.mean(axis=(1, 2))


def measure_maps(run):
    """What deletion does to validation images and, of a run on phantoms, the pointing game on new ones.

    It is played on all with pneumonia and on those that the run predicts to have it.
    """
    from pneumo_keras.data.phantom import PhantomImages
    from pneumo_keras.recipes.explain import build_image_explainer
    from pneumo_keras.recipes.images import open_own_data, open_splits

    config, data = open_own_data(run)
    explainer = build_image_explainer(run).explainer
    source = open_splits(data, ("val",))["val"].images
    sick, normal = np.flatnonzero(source.labels == 1), np.flatnonzero(source.labels == 0)
    images = source.read(sick[np.unique(np.linspace(0, len(sick) - 1, DELETED).round().astype(int))])
    deletion = measure_deletion(
        images,
        explain_images(explainer, images)[0],
        source.read(normal).mean(axis=0),
        lambda changed: explain_images(explainer, changed)[1],
    )
    if config.data.source != "phantom":
        return deletion, []
    phantoms = PhantomImages(PHANTOMS, config.data.size, PHANTOM_SEED)
    sick = np.flatnonzero(phantoms.labels)
    evidence, log_odds = explain_images(explainer, phantoms.read(sick))
    patches = phantoms.read_patches(sick)
    predicted = log_odds > logit(run.operating_point.threshold)
    return deletion, [
        play_pointing_game(evidence[rows], patches[rows])
        for rows in (np.full(len(sick), True), predicted)
        if rows.any()
    ]


if __name__ == "__main__":
    from pneumo_keras.runs.run import load_run
    from pneumo_keras.runtime.backend import start_backend

    with tempfile.TemporaryDirectory() as cache:
        start_backend(Path(cache))
        deletion, games = measure_maps(load_run(Path(sys.argv[1])))
    rows = [(name, *figures) for name, figures in deletion.items()]
    headers = ["replaced where highest", "change of log odds", "standard error"]
    print(tabulate(rows, headers=headers, floatfmt="+.2f"))  # noqa: T201
    for game in games:
        print(game)  # noqa: T201
