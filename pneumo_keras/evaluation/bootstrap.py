"""The stratified bootstrap: images drawn with replacement, as many of each class as there are.

Where patients are known, they are drawn with all their images.

Like DeLong's variance it takes the share of pneumonia as given. It says nothing when all resamples
agree (a flawless classifier).
"""

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit, logit, stdtrit

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.figures import (
    BinGaps,
    Draws,
    Resamples,
    to_resampled_calls,
    to_resampled_figures,
    to_resampled_gaps,
    to_resampled_rankings,
)
from pneumo_keras.evaluation.intervals import LEVEL, ROUNDING, Interval
from pneumo_keras.evaluation.metrics import Calls, to_prevalence
from pneumo_keras.evaluation.patients import Patients
from pneumo_keras.evaluation.prevalence import PrevalenceShift, weigh_classes, weigh_images
from pneumo_keras.evaluation.reliability import to_bin_members

RESAMPLES = 2000
CHUNK_CELLS = 2**18
"""ImageSet times resamples held at once: 2 MB an array, which stays in the processor's cache."""


def draw_resamples(
    labels: Labels, resamples: int, seed: int, patients: Patients | None = None
) -> Iterator[Resamples]:
    """Draws stratified resamples, some at a time so that memory does not grow with their number.

    Of known patients each is drawn with all images: as many patients as there are without pneumonia, with
    pneumonia images alone, and with both. Images then count as much as it takes for each class to keep its
    number.
    """
    rng = np.random.default_rng(seed)
    kinds = labels if patients is None else _to_kinds(labels, patients)
    n = len(kinds)
    strata = [np.flatnonzero(kinds == kind) for kind in range(3)]
    chunk = max(1, CHUNK_CELLS // len(labels))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        images = np.concatenate(
            [images[rng.integers(0, max(len(images), 1), (rows, len(images)))] for images in strata], axis=1
        )
        cells = images + n * np.arange(rows)[:, None]
        drawn = np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n)
        yield drawn if patients is None else _to_images(drawn[:, patients], labels)


def _to_kinds(labels: Labels, patients: Patients) -> Int64[np.ndarray, " patients"]:
    """0 for a patient with normal images alone, 1 with pneumonia images alone, 2 with both."""
    pneumonia, images = np.bincount(patients, labels), np.bincount(patients)
    return np.where(pneumonia == 0, 0, np.where(pneumonia == images, 1, 2))


def _to_images(drawn: Int64[np.ndarray, "resamples n"], labels: Labels) -> Float64[np.ndarray, "resamples n"]:
    images = drawn.astype(np.float64)
    for inside in (labels == label for label in np.unique(labels)):
        images[:, inside] *= inside.sum() / images[:, inside].sum(axis=1, keepdims=True)
    return images


def draw_figures(
    labels: Labels,
    classifiers: list[tuple[Scores, Calls]],
    *,
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
    seed: int,
    patients: Patients | None = None,
) -> list[dict[str, Draws]]:
    """Draws the figures of one or more classifiers, all on the same resamples of the same images.

    Args:
        labels: The images' labels.
        classifiers: Scores and calls of each.
        prevalence: See `to_figures`.
        resamples: How many.
        seed: Of the draws.
        patients: Of the images, where known.
    """
    measures = [
        functools.partial(to_resampled_figures, labels, scores, calls, prevalence=prevalence)
        for scores, calls in classifiers
    ]
    return _draw(draw_resamples(labels, resamples, seed, patients), measures)


def draw_call_figures(
    labels: Labels,
    classifiers: list[Calls],
    *,
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
    seed: int,
    patients: Patients | None = None,
) -> list[dict[str, Draws]]:
    """Draws the figures that depend on calls alone, which takes a fraction of the time."""
    weights = weigh_images(labels, prevalence)
    measures = [functools.partial(to_resampled_calls, labels, calls, weights) for calls in classifiers]
    return _draw(draw_resamples(labels, resamples, seed, patients), measures)


def _draw(
    resamples: Iterator[Resamples], measures: list[Callable[[Resamples], dict[str, Draws]]]
) -> list[dict[str, Draws]]:
    chunks = [[measure(drawn) for measure in measures] for drawn in resamples]
    return [
        {name: np.concatenate([figures[name] for figures in parts]) for name in parts[0]}
        for parts in zip(*chunks, strict=True)
    ]


def draw_precisions_and_gaps(
    labels: Labels,
    scores: Scores,
    *,
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
    seed: int,
    patients: Patients | None = None,
) -> tuple[Draws, BinGaps]:
    """Draws average precisions and bins' gaps: the figures whose intervals no formula gives."""
    weights = weigh_images(labels, prevalence)
    precisions, gaps = zip(
        *(
            (
                to_resampled_rankings(labels, scores, weights, drawn)["average_precision"],
                to_resampled_gaps(labels, scores, weights, drawn),
            )
            for drawn in draw_resamples(labels, resamples, seed, patients)
        ),
        strict=True,
    )
    return np.concatenate(precisions), np.concatenate(gaps)


def to_percentiles(draws: Draws, *, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of the draws; NaN where one is undefined, or all agree: that is no certainty."""
    if np.isnan(draws).any() or draws.min() == draws.max():
        return math.nan, math.nan
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def to_average_precision_interval(
    value: float, draws: Draws, *, rarer: int, level: float = LEVEL
) -> Interval:
    """Interval of an average precision, symmetric in its logit: percentiles lie too high near 1.

    Resampling k images leaves out 1 / k of their variance, and how well k images tell it is Student's
    affair: both by the rarer class. NaN for a flawless ranking, or with one image of a class.

    Args:
        value: Of the images.
        draws: Of their resamples.
        rarer: ImageSet, or patients where they are drawn, of the rarer class.
        level: Of the interval.

    References:
        Boyd, K., Eng, K. H. & Page, C. D. (2013). Area under the precision-recall curve: point
        estimates and confidence intervals. ECML PKDD, 451-466: the logit, with a binomial error.
        Hesterberg, T. C. (2015). What teachers should know about the bootstrap. The American
        Statistician 69, 371-386: the bootstrap's error in small samples.
    """
    method = "bootstrap, stratified, logit t"
    if rarer < 2 or not 0 < value < 1 or draws.min() == draws.max():
        return Interval(value, math.nan, math.nan, method)
    error = float(np.std(draws)) * math.sqrt(rarer / (rarer - 1)) / (value * (1 - value))
    centre, half = logit(value), float(stdtrit(rarer - 1, (1 + level) / 2)) * error
    return Interval(value, float(expit(centre - half)), float(expit(centre + half)), method)


def draw_chance_errors(
    labels: Labels,
    scores: Scores,
    *,
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
    seed: int,
    patients: Patients | None = None,
) -> Draws:
    """Draws calibration errors of labels that the scores themselves have drawn: what chance alone gives.

    Labels of one patient are drawn by one number, so that they are as alike as the scores let them be.
    Scores that speak of a stated prevalence draw labels at the images' own share, weighed as the images are.

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
    n, units = len(scores), np.arange(len(scores)) if patients is None else patients
    chunk = max(1, CHUNK_CELLS // n)
    parts = []
    for start in range(0, resamples, chunk):
        drawn = rng.random((min(chunk, resamples - start), int(units.max()) + 1))[:, units] < chances
        gaps = np.where(drawn, pneumonia * (1 - scores), -normal * scores)
        parts.append(np.abs(gaps @ members).sum(axis=1) / n)
    return np.concatenate(parts)


def to_calibration_interval(
    gaps: Float64[np.ndarray, " bins"], draws: BinGaps, chance: Draws, *, level: float = LEVEL
) -> Interval:
    """Interval of a calibration error: those true errors that the images do not contradict.

    Noise makes a calibration error larger, and resampling adds that noise once more, so percentiles
    themselves lie too high. Here bins are thought to be off by what they show times a scale, the same
    for all, and to this the noise of resampling is added; the scales at which the error of the images
    would be one of the largest, and of the smallest, give the bounds. 0 is included if chance may do it.

    Args:
        gaps: Of the images, by bin; the absolute values sum to their calibration error.
        draws: Gaps of their resamples.
        chance: Errors of labels drawn from the scores, see `draw_chance_errors`.
        level: Of the interval.

    References:
        Carpenter, J. (1999). Test inversion bootstrap confidence intervals. J. R. Statist. Soc. B 61,
        159-172.
    """
    from scipy.optimize import root_scalar

    method, value, noise = "bootstrap, stratified, test inversion", float(np.abs(gaps).sum()), draws - gaps
    if np.ptp(np.abs(draws).sum(axis=1)) <= ROUNDING or value <= ROUNDING:
        return Interval(value, math.nan, math.nan, method)
    # Where the gaps outweigh the noise of every resample, by more than rounding.
    largest = 2 + float(np.abs(noise).sum(axis=1).max()) / value

    def to_scale(share: float) -> float:
        def to_excess(scale: float) -> float:
            return float(np.quantile(np.abs(scale * gaps + noise).sum(axis=1), share)) - value

        return float(root_scalar(to_excess, bracket=(0, largest)).root) if to_excess(0) < 0 else 0.0

    explained = value <= np.quantile(chance, level)
    low = 0.0 if explained else min(1.0, to_scale((1 + level) / 2)) * value
    return Interval(value, low, min(1.0, max(1.0, to_scale((1 - level) / 2)) * value), method)
