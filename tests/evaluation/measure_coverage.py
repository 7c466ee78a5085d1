"""How often 95 % intervals hold the true figure, by simulation: the tables in docs/benchmarks.md.

    python tests/evaluation/measure_coverage.py [IMAGES ...] [--sets N] [--paired] [--a-patient N] [--blind]

Log odds of both classes are normal, the scores' AUC is 0.95 (the second classifier's of a pair 0.93),
either calibrated, or steeper and shifted. Class counts are fixed; true figures are those of a million
images, weighted to the same prevalence. With several images a patient, log odds of one patient are
correlated by 0.6 within a class; --blind lets intervals take each image as independent.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
from scipy.special import expit, logit, ndtri

from pneumo_keras.evaluation.comparison import compare_figures
from pneumo_keras.evaluation.intervals import to_intervals
from pneumo_keras.evaluation.metrics import to_resampled_figures, weigh_images

MODELS = {"calibrated": (1.0, 0.0), "a little off": (1.3, 0.4), "far off": (2.0, 1.0)}
PREVALENCES = (0.7, 0.3)
AUCS = (0.95, 0.93)
CORRELATION = 0.8  # of the log odds of a pair, within a class
LIKENESS = 0.6  # correlation of the log odds of two images of a patient, within a class
RESAMPLES = 500
MANY = 500_000  # images of each class


def draw_images(rng, counts, prevalence, model, a_patient=1):
    """Labels, and scores of two classifiers: of images of as many patients as `counts` has by class."""
    slope, shift = MODELS[model]
    labels = np.repeat(np.array([0, 1], dtype=np.int64), [a_patient * count for count in counts])

    def draw_noise():
        if a_patient == 1:
            return rng.normal(size=len(labels))
        of_patients = np.repeat(rng.normal(size=sum(counts)), a_patient)
        return LIKENESS**0.5 * of_patients + (1 - LIKENESS) ** 0.5 * rng.normal(size=len(labels))

    common, scores = draw_noise(), []
    for auc in AUCS:
        noise = CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * draw_noise()
        distance = 2**0.5 * ndtri(auc)
        odds = distance * (noise + distance * (labels - 0.5)) + logit(prevalence)
        scores.append(expit(slope * odds + shift))
    return labels, scores


def to_values(labels, scores, prevalence=None):
    """Every figure, faster than by scikit-learn."""
    figures = to_resampled_figures(labels, scores, scores > 0.5, weigh_images(labels, prevalence)[None])
    return {name: float(value[0]) for name, value in figures.items()}


def list_intervals(labels, scores, paired, **options):
    """Of the first classifier, or of the second less the first."""
    options["resamples"] = RESAMPLES
    if paired:
        return compare_figures(labels, *scores, first_threshold=0.5, second_threshold=0.5, **options)
    first = scores[0]
    return to_intervals(labels, first, first > 0.5, **options)


def measure(
    images: int, prevalence: float, model: str, *, sets: int, paired: bool, a_patient: int, blind: bool
) -> Iterator[tuple[str, float, float, float]]:
    """Of each figure: share of intervals that hold the truth and that are defined, and median width."""
    labels, scores = draw_images(np.random.default_rng(99), (MANY, MANY), prevalence, model)
    true, other = (to_values(labels, one, prevalence) for one in scores)
    truth = {name: other[name] - true[name] for name in true} if paired else true
    all_patients = round(images / a_patient)
    pneumonia = max(2, round(all_patients * prevalence))
    counts = (all_patients - pneumonia, pneumonia)
    patients = np.repeat(np.arange(all_patients), a_patient) if a_patient > 1 and not blind else None
    bounds: dict[str, list[tuple[float, float]]] = {}
    for seed in range(sets):
        rng = np.random.default_rng([images, seed])
        labels, scores = draw_images(rng, counts, prevalence, model, a_patient)
        for name, interval in list_intervals(labels, scores, paired, seed=seed, patients=patients).items():
            bounds.setdefault(name, []).append((interval.low, interval.high))
    for name, pairs in bounds.items():
        low, high = np.array(pairs)[~np.isnan(pairs).any(axis=1)].T
        held = float(np.mean((low <= truth[name]) & (truth[name] <= high)))
        yield name, held, len(low) / sets, float(np.median(high - low))


def main() -> None:
    """Writes the lowest and highest share of each figure over the scenarios, and the median width."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="*", type=int, default=[40, 100, 624])
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--paired", action="store_true")
    parser.add_argument("--a-patient", type=int, default=1)
    parser.add_argument("--blind", action="store_true")
    options = vars(parser.parse_args())
    for images in options.pop("images"):
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for model in MODELS:
            for prevalence in PREVALENCES:
                for name, *row in measure(images, prevalence, model, **options):
                    rows.setdefault(name, []).append(tuple(row))
        for name, found in rows.items():
            held, defined, widths = zip(*found, strict=True)
            sys.stdout.write(
                f"{images} images, {name}: {min(held):.1%} to {max(held):.1%} held, at least "
                f"{min(defined):.1%} defined, width {np.median(widths):.4f}\n"
            )


if __name__ == "__main__":
    main()
