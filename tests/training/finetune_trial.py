"""Does it help to let blocks of the network learn? Paired, on phantom images of 64 px, over several seeds.

    python -m tests.training.finetune_trial [--weights FILE] [--from BLOCK] [--feature_layers NAME,...]
        [--seeds 1,2,...] [--rate RATE] [--epochs N] [--images TRAIN,VAL] [--size PX]

Each seed is trained twice, with and without `training.unfreeze_from`; all else is the same. Differences are
the log loss of the fine-tuned network minus that of the frozen one: below 0 it is better. The validation
images have chosen the epoch; the fresh images have chosen nothing, and belong to no split of these runs. The
test split is not opened.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp

from pneumo_keras.config import find_cache, load_config
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.evaluation.comparison import to_difference
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.runtime.backend import start_backend

FRESH = 400  # images
FRESH_SEED = 2026  # of another lot than any split
RESAMPLES = 10_000
AT_ONCE = 50  # images


def train(overrides, folder):
    """Labels and scores of the validation images, and of fresh ones."""
    from pneumo_keras.model.classifier import load_classifier
    from pneumo_keras.recipes.train import train_run
    from pneumo_keras.runs.folder import RunFolder

    config = load_config("demo", overrides)
    train_run(config, RunFolder(folder))
    fresh = PhantomImages(FRESH, config.data.size, FRESH_SEED, 0.74)
    images = fresh.read(slice(None))[..., None].astype(np.float32)
    model = load_classifier(folder / "model.keras").join()
    scores = model.predict(images, batch_size=AT_ONCE, verbose="0")[:, 0].astype(np.float64)
    return {"validation": load_scores(folder / "scores_val.csv"), "fresh": (fresh.labels, scores)}


def to_losses(labels, scores):
    given = np.clip(np.where(labels == 1, scores, 1 - scores), 1e-7, 1)
    return -np.log(given)


def compare(labels, losses):
    """The difference, by images and by seeds.

    Args:
        labels: Of the images.
        losses: Of each image, frozen and fine-tuned (seeds, 2, images).
    """
    gains = (losses[:, 1] - losses[:, 0]).mean(axis=0)
    rng = np.random.default_rng(0)
    draws = np.zeros(RESAMPLES)
    for label in (0, 1):  # stratified
        of_class = gains[labels == label]
        rows = rng.integers(len(of_class), size=(RESAMPLES, len(of_class)))
        draws += of_class[rows].sum(axis=1) / len(gains)
    rarer = min(np.sum(labels == label) for label in (0, 1))
    by_images = to_difference(float(gains.mean()), float(draws.std()), rarer - 1, method="bootstrap")
    by_seed = (losses[:, 1] - losses[:, 0]).mean(axis=1)
    by_seeds = ttest_1samp(by_seed, 0)
    low, high = by_seeds.confidence_interval()
    return (
        f"log loss {losses[:, 0].mean():.4f} frozen, {losses[:, 1].mean():.4f} fine-tuned\n"
        f"  difference {by_images.value:+.4f}\n"
        f"  over images: 95 % {by_images.low:+.4f} to {by_images.high:+.4f}, p = {by_images.p_value:.4g} "
        "(bootstrap)\n"
        f"  over seeds: 95 % {low:+.4f} to {high:+.4f}, p = {by_seeds.pvalue:.4g} (t), each: "
        + ", ".join(f"{one:+.4f}" for one in by_seed)
    )


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="none")
    parser.add_argument("--from", dest="block", default="mixed0")
    parser.add_argument("--feature_layers", default="mixed0,mixed1,mixed2")
    parser.add_argument("--seeds", type=lambda text: [*map(int, text.split(","))], default=[1, 2, 3, 4, 5])
    parser.add_argument("--rate", default="1e-4")
    parser.add_argument("--epochs", default="10")
    parser.add_argument("--images", default="640,400")
    parser.add_argument("--size", default="75")
    return parser.parse_args()


def main():
    asked = parse()
    start_backend(find_cache() / "jax")
    shared = [
        "data.size=64",
        f"data.phantom_images=[{asked.images},2]",
        f"model.weights={asked.weights}",
        f"model.feature_layers={asked.feature_layers.split(',')}",
        f"model.image_size={asked.size}",
    ]
    tuned = [
        f"training.unfreeze_from={asked.block}",
        f"training.unfrozen_learning_rate={asked.rate}",
        f"training.unfrozen_epochs={asked.epochs}",
    ]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in asked.seeds:
            own = [*shared, f"seed={seed}"]
            pair = (
                train(own, Path(folder, f"frozen-{seed}")),
                train([*own, *tuned], Path(folder, f"tuned-{seed}")),
            )
            found.append(pair)
    for name in ("validation", "fresh"):
        labels = found[0][0][name][0]
        losses = np.array([[to_losses(*one[name]) for one in pair] for pair in found])
        sys.stdout.write(
            f"{len(labels)} {name} images, {len(asked.seeds)} seeds: {compare(labels, losses)}\n"
        )


if __name__ == "__main__":
    main()
