"""How often 95 % intervals hold the true figure, by simulation: the table in docs/benchmarks.md.

    python tests/evaluation/coverage_table.py [IMAGES ...] [--sets SETS] [--paired] [--a-patient N] [--blind]

Log odds of both classes are normal, the scores' AUC is 0.95 (the second classifier's of a pair 0.93),
either calibrated, or steeper and shifted. Class counts are fixed; true figures are those of a million
images, weighted to the same share of pneumonia. With several images a patient, log odds of one patient are
correlated by 0.6 within a class; --blind lets intervals take each image for a patient of its own.
"""

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import expit, logit, ndtri

from pneumo_keras.evaluation.comparison import compare_figures
from pneumo_keras.evaluation.figure_intervals import to_intervals
from pneumo_keras.evaluation.figures import to_resampled_figures

MODELS = {"calibrated": (1.0, 0.0), "a little off": (1.3, 0.4), "far off": (2.0, 1.0)}
SHARES = (0.7, 0.3)
AUCS = (0.95, 0.93)
CORRELATION = 0.8  # of the log odds of a pair, within a class
LIKENESS = 0.6  # correlation of the log odds of two images of a patient, within a class
RESAMPLES = 500
MANY = 500_000  # images of each class

Drawn = tuple[np.ndarray, list[np.ndarray]]


def draw_images(
    rng: np.random.Generator, counts: tuple[int, int], share: float, model: str, a_patient: int = 1
) -> Drawn:
    """Labels, and scores of two classifiers: of images of as many patients as `counts` has."""
    slope, shift = MODELS[model]
    labels = np.repeat(np.array([0, 1], dtype=np.int64), [a_patient * count for count in counts])

    def draw_noise() -> np.ndarray:
        if a_patient == 1:
            return rng.normal(size=len(labels))
        of_patients = np.repeat(rng.normal(size=sum(counts)), a_patient)
        return LIKENESS**0.5 * of_patients + (1 - LIKENESS) ** 0.5 * rng.normal(size=len(labels))

    common = draw_noise()
    scores = []
    for auc in AUCS:
        noise = CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * draw_noise()
        distance = 2**0.5 * ndtri(auc)
        odds = distance * (noise + distance * (labels - 0.5)) + logit(share)
        scores.append(expit(slope * odds + shift))
    return labels, scores


def to_values(labels: np.ndarray, scores: np.ndarray, prevalence: float | None = None) -> dict[str, float]:
    """Every figure, faster than by scikit-learn."""
    images = np.ones((1, len(labels)), dtype=np.int64)
    figures = to_resampled_figures(labels, scores, scores > 0.5, images, prevalence=prevalence)
    return {name: float(value[0]) for name, value in figures.items()}


def list_alone(labels: np.ndarray, scores: list[np.ndarray], seed: int, patients: np.ndarray | None) -> dict:
    """Intervals of the first classifier."""
    first = scores[0]
    values = to_values(labels, first)
    return to_intervals(values, labels, first, first > 0.5, resamples=RESAMPLES, seed=seed, patients=patients)


def list_paired(labels: np.ndarray, scores: list[np.ndarray], seed: int, patients: np.ndarray | None) -> dict:
    """Intervals of the second less the first."""
    thresholds = {"first_threshold": 0.5, "second_threshold": 0.5}
    return compare_figures(labels, *scores, **thresholds, resamples=RESAMPLES, seed=seed, patients=patients)


def measure(
    images: int, share: float, model: str, sets: int, paired: bool, a_patient: int = 1, blind: bool = False
) -> Iterator[tuple[str, float, float, float, float]]:
    """For each figure: share of intervals that hold the truth, lie above, lie below, and median width."""
    rng = np.random.default_rng(99)
    labels, scores = draw_images(rng, (MANY, MANY), share, model)
    true, other = (to_values(labels, one, share) for one in scores)
    truth = {name: other[name] - true[name] for name in true} if paired else true
    list_intervals: Callable = list_paired if paired else list_alone
    all_patients = round(images / a_patient)
    pneumonia = max(2, round(all_patients * share))
    patients = np.repeat(np.arange(all_patients), a_patient) if a_patient > 1 and not blind else None
    bounds: dict[str, list[tuple[float, float]]] = {}
    for seed in range(sets):
        labels, scores = draw_images(
            np.random.default_rng([images, seed]),
            (all_patients - pneumonia, pneumonia),
            share,
            model,
            a_patient,
        )
        for name, interval in list_intervals(labels, scores, seed, patients).items():
            bounds.setdefault(name, []).append((interval.low, interval.high))
    for name, pairs in bounds.items():
        low, high = np.array(pairs)[~np.isnan(pairs).any(axis=1)].T
        above, below = float(np.mean(low > truth[name])), float(np.mean(high < truth[name]))
        yield name, 1 - above - below, above, below, float(np.median(high - low))


def main() -> None:
    """Writes a row for each figure and scenario, and the lowest and highest share of each figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="*", type=int, default=[20, 40, 100, 200, 624])
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--paired", action="store_true")
    parser.add_argument("--a-patient", type=int, default=1)
    parser.add_argument("--blind", action="store_true")
    options = parser.parse_args()
    for images in options.images:
        held: dict[str, list[float]] = {}
        for model in MODELS:
            for share in SHARES:
                choices = (options.sets, options.paired, options.a_patient, options.blind)
                for name, *row in measure(images, share, model, *choices):
                    held.setdefault(name, []).append(row[0])
                    shown = "{:.1%} held, {:.1%} above, {:.1%} below, width {:.4f}".format(*row)
                    sys.stdout.write(f"{images} images, {share:.0%} pneumonia, {model}: {name} {shown}\n")
        for name, shares in held.items():
            sys.stdout.write(f"{images} images, {name}: {min(shares):.1%} to {max(shares):.1%}\n")


if __name__ == "__main__":
    main()
