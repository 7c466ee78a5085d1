"""The stratified bootstrap: films drawn with replacement, as many of each class as there are.

Like DeLong's variance it takes the share of pneumonia as given. Percentile intervals are a little
short when a class has few films, and say nothing when all resamples agree (a flawless classifier).
"""

import math
from collections.abc import Iterator

import numpy as np

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.figures import Draws, Resamples, to_resampled_figures
from pneumo_keras.evaluation.intervals import LEVEL, Interval
from pneumo_keras.evaluation.metrics import Calls, to_prevalence
from pneumo_keras.evaluation.prevalence import PrevalenceShift, weigh_classes
from pneumo_keras.evaluation.reliability import to_bin_members

RESAMPLES = 2000
CHUNK_CELLS = 2**18
"""Films times resamples held at once: 2 MB an array, which stays in the processor's cache."""


def draw_resamples(labels: Labels, resamples: int, seed: int) -> Iterator[Resamples]:
    """Draws stratified resamples, some at a time so that memory does not grow with their number."""
    rng = np.random.default_rng(seed)
    n = len(labels)
    strata = [np.flatnonzero(labels == label) for label in (0, 1)]
    chunk = max(1, CHUNK_CELLS // n)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        films = np.concatenate(
            [films[rng.integers(0, max(len(films), 1), (rows, len(films)))] for films in strata], axis=1
        )
        cells = films + n * np.arange(rows)[:, None]
        yield np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n)


def draw_figures(
    labels: Labels,
    classifiers: list[tuple[Scores, Calls]],
    *,
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
    seed: int,
) -> list[dict[str, Draws]]:
    """Draws the figures of one or more classifiers, all on the same resamples of the same films.

    Args:
        labels: The films' labels.
        classifiers: Scores and calls of each.
        prevalence: See `to_figures`.
        resamples: How many.
        seed: Of the draws.
    """
    chunks = [
        [
            to_resampled_figures(labels, scores, calls, drawn, prevalence=prevalence)
            for scores, calls in classifiers
        ]
        for drawn in draw_resamples(labels, resamples, seed)
    ]
    return [
        {name: np.concatenate([figures[name] for figures in parts]) for name in parts[0]}
        for parts in zip(*chunks, strict=True)
    ]


def to_percentiles(draws: Draws, *, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of the draws; NaN where one is undefined, or all agree: that is no certainty."""
    if np.isnan(draws).any() or draws.min() == draws.max():
        return math.nan, math.nan
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def to_bootstrap_interval(value: float, draws: Draws, *, level: float = LEVEL) -> Interval:
    """Percentile interval of a figure.

    References:
        Efron, B. & Tibshirani, R. J. (1993). An introduction to the bootstrap, chapter 13.
    """
    return Interval(value, *to_percentiles(draws, level=level), "bootstrap, stratified, percentile")


def draw_chance_errors(
    labels: Labels,
    scores: Scores,
    *,
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
    seed: int,
) -> Draws:
    """Draws calibration errors of labels that the scores themselves have drawn: what chance alone gives.

    Scores that speak of a stated prevalence draw labels at the films' own share, weighed as the films are.

    References:
        Bröcker, J. & Smith, L. A. (2007). Increasing the reliability of reliability diagrams.
        Weather and Forecasting 22, 651-661: consistency resampling.
    """
    rng = np.random.default_rng(seed)
    members = to_bin_members(scores)
    normal, pneumonia = weigh_classes(labels, prevalence)
    chances = scores
    if prevalence is not None:
        chances = PrevalenceShift(prevalence, to_prevalence(labels)).correct_scores(scores)
    n = len(scores)
    chunk = max(1, CHUNK_CELLS // n)
    parts = []
    for start in range(0, resamples, chunk):
        drawn = rng.random((min(chunk, resamples - start), n)) < chances
        gaps = np.where(drawn, pneumonia * (1 - scores), -normal * scores)
        parts.append(np.abs(gaps @ members).sum(axis=1) / n)
    return np.concatenate(parts)


def to_calibration_interval(value: float, draws: Draws, chance: Draws, *, level: float = LEVEL) -> Interval:
    """Interval of a calibration error: percentiles reflected at the value, 0 included if chance may do it.

    Noise makes a calibration error larger, and resampling adds that noise once more, so percentiles
    themselves lie too high. Of 95 % intervals, on 400 draws of 624 films each from six classifiers,
    from calibrated to strongly biased, 88 to 95 % held the true error (percentiles: 0 to 96 %).

    Args:
        value: Calibration error of the films.
        draws: Of their resamples.
        chance: Of labels drawn from the scores, see `draw_chance_errors`.
        level: Of the interval.

    References:
        Davison, A. C. & Hinkley, D. V. (1997). Bootstrap methods and their application, section 5.2.
    """
    method = "bootstrap, stratified, reflected"
    low, high = to_percentiles(draws, level=level)
    if math.isnan(low):
        return Interval(value, low, high, method)
    explained = value <= np.quantile(chance, level)
    lower = 0.0 if explained else max(0.0, min(value, 2 * value - high))
    return Interval(value, lower, max(value, 2 * value - low), method)
