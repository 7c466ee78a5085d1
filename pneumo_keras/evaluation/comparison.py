"""Two classifiers on the same images: is the second better, or is it chance?

Differences are second minus first. Images are paired, so intervals are much shorter than those of two
separate figures: overlapping intervals of two classifiers do not say that they are equal.

Where no image speaks (all resamples agree, or DeLong's variance is 0) the images say nothing about how
large a difference may be that they happen not to show. Bounds then come from the images and one image of
each kind of disagreement: for each label one that only the first scores 1 and the second 0, and one the
other way round. Figures of the calls get such images at all times, as paired proportions do by Bonett and
Price: a handful of images on which calls differ says too little by itself.

Where patients are known, their images are taken together; each added image is of a patient of its own.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import bdtr, ndtr, ndtri, stdtr, stdtrit

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.bootstrap import RESAMPLES, draw_call_figures, draw_figures, to_percentiles
from pneumo_keras.evaluation.figures import Draws, to_resampled_figures
from pneumo_keras.evaluation.intervals import (
    LEVEL,
    ROUNDING,
    to_placement_sums,
    to_placement_variance,
    to_placements,
    to_z,
)
from pneumo_keras.evaluation.metrics import Calls, has_both_classes
from pneumo_keras.evaluation.patients import (
    BY_PATIENT,
    Patients,
    add_patients,
    count_rarer,
    select_patients,
    to_variance,
)
from pneumo_keras.evaluation.scores import check_scores
from pneumo_keras.storage.documents import FloatOrNan

OF_CALLS = (
    "accuracy",
    "balanced_accuracy",
    "precision_pneumonia",
    "precision_normal",
    "f1_pneumonia",
    "f1_normal",
)
ADDED = ", one image of each disagreement added"


@dataclass(frozen=True)
class Difference:
    """Second minus first, with its confidence interval; NaN where undefined.

    Attributes:
        value: The difference.
        low: Lower bound.
        high: Upper bound.
        p_value: Two-sided, of no difference.
        method: How bounds and p-value were found.
    """

    value: FloatOrNan
    low: FloatOrNan
    high: FloatOrNan
    p_value: FloatOrNan
    method: str


@dataclass(frozen=True)
class Rivals:
    """Two classifiers on the same images.

    Attributes:
        labels: Of the images.
        first: Scores of the first.
        second: Scores of the second.
        first_calls: Which images the first calls pneumonia.
        second_calls: Which images the second calls pneumonia.
        patients: Of the images, where known.
        prevalence: Share of pneumonia that figures are to speak of; None for the images' own.
    """

    labels: Labels
    first: Scores
    second: Scores
    first_calls: Calls
    second_calls: Calls
    patients: Patients | None = None
    prevalence: float | None = None

    def add_disagreements(self) -> "Rivals":
        """With one image more of each kind of disagreement, for every label that there is."""
        labels = np.repeat(np.unique(self.labels), 2)
        only_first = np.arange(len(labels)) % 2 == 0
        return Rivals(
            np.append(self.labels, labels),
            np.append(self.first, only_first.astype(np.float64)),
            np.append(self.second, (~only_first).astype(np.float64)),
            np.append(self.first_calls, only_first),
            np.append(self.second_calls, ~only_first),
            None if self.patients is None else add_patients(self.patients, len(labels)),
            self.prevalence,
        )

    def to_gains(self) -> dict[str, float]:
        """Every figure of the second minus that of the first."""
        images = np.ones((1, len(self.labels)), dtype=np.int64)
        before, after = (
            to_resampled_figures(self.labels, scores, calls, images, prevalence=self.prevalence)
            for scores, calls in ((self.first, self.first_calls), (self.second, self.second_calls))
        )
        return {name: float(after[name][0] - before[name][0]) for name in before}

    def draw_gains(self, *, resamples: int, seed: int) -> dict[str, Draws]:
        """The same of resamples."""
        before, after = draw_figures(
            self.labels,
            [(self.first, self.first_calls), (self.second, self.second_calls)],
            prevalence=self.prevalence,
            resamples=resamples,
            seed=seed,
            patients=self.patients,
        )
        return {name: after[name] - before[name] for name in before}

    def draw_call_gains(self, *, resamples: int, seed: int) -> dict[str, Draws]:
        """The same of the figures that depend on calls alone."""
        before, after = draw_call_figures(
            self.labels,
            [self.first_calls, self.second_calls],
            prevalence=self.prevalence,
            resamples=resamples,
            seed=seed,
            patients=self.patients,
        )
        return {name: after[name] - before[name] for name in before}


def compare_figures(
    labels: Labels,
    first: Scores,
    second: Scores,
    *,
    first_threshold: float,
    second_threshold: float,
    resamples: int = RESAMPLES,
    seed: int,
    level: float = LEVEL,
    patients: Patients | None = None,
    prevalence: float | None = None,
) -> dict[str, Difference]:
    """Differences of all figures, second minus first: by DeLong, McNemar, the rest by bootstrap.

    An interval is NaN only where the figure itself is.

    Args:
        labels: Of the images.
        first: Scores of the first.
        second: Scores of the second.
        first_threshold: Above it the first calls an image pneumonia.
        second_threshold: The same of the second.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        level: Of the intervals.
        patients: Of the images, where known: all differences then take the images of one together.
        prevalence: Share of pneumonia in a population that the scores speak of, and the figures are to;
            None for the images' own. McNemar's test knows no weights: the accuracy is then bootstrapped, too.

    Raises:
        DataError: There are no images, labels or scores are out of range, or a prevalence is stated for
            images of one class.
    """
    for scores in (first, second):
        check_scores(labels, scores)
    rivals = Rivals(
        labels, first, second, first > first_threshold, second > second_threshold, patients, prevalence
    )
    differences = compare_by_bootstrap(rivals, resamples=resamples, seed=seed, level=level)
    differences["auc"] = compare_aucs(rivals, level=level)
    right = [calls == (labels == 1) for calls in (rivals.first_calls, rivals.second_calls)]
    shares = {"sensitivity": labels == 1, "specificity": labels == 0}
    if prevalence is None:
        shares["accuracy"] = labels >= 0
    for name, images in shares.items():
        of_images = None if patients is None else select_patients(patients, images)
        differences[name] = compare_shares(right[0][images], right[1][images], of_images, level=level)
    by = "" if patients is None else BY_PATIENT
    return {name: replace(one, method=one.method + by) for name, one in differences.items()}


def compare_aucs(rivals: Rivals, *, level: float = LEVEL) -> Difference:
    """Difference of two AUCs on the same images, by DeLong's test.

    References:
        DeLong, DeLong & Clarke-Pearson (1988). See `intervals`.
    """
    method = "DeLong, paired"
    if not has_both_classes(rivals.labels):
        return Difference(math.nan, math.nan, math.nan, math.nan, method)
    before, after = (to_placements(rivals.labels, scores) for scores in (rivals.first, rivals.second))
    gains = [later - earlier for earlier, later in zip(before, after, strict=True)]
    value = float(gains[0].mean())
    if rivals.patients is not None:
        ill, normal = gains
        variance, freedom = to_variance(to_placement_sums(ill, normal, rivals.labels, rivals.patients))
    else:
        variance, freedom = to_placement_variance(*gains), math.inf
    if variance > 0 and any(np.ptp(part) > ROUNDING for part in gains):
        return to_student_difference(value, math.sqrt(variance), freedom, method=method, level=level)
    return _borrow_bounds(value, compare_aucs(rivals.add_disagreements(), level=level))


def to_student_difference(
    value: float, error: float, freedom: float, *, method: str, level: float
) -> Difference:
    """A difference within Student's interval, or the normal one for infinite degrees of freedom."""
    if math.isinf(freedom):
        half, p_value = to_z(level) * error, 2 * ndtr(-abs(value) / error)
    else:
        half = float(stdtrit(freedom, (1 + level) / 2)) * error
        p_value = 2 * stdtr(freedom, -abs(value) / error)
    return Difference(value, max(-1.0, value - half), min(1.0, value + half), float(p_value), method)


def compare_shares(
    first: Bool[np.ndarray, " images"],
    second: Bool[np.ndarray, " images"],
    patients: Patients | None = None,
    *,
    level: float = LEVEL,
) -> Difference:
    """Difference of two shares of the same images (accuracy, sensitivity), by McNemar's exact test.

    The bounds are Bonett and Price's: Wald's, after adding one image to each kind of disagreement.
    Test and bounds may disagree in a close case.

    Args:
        first: Which images the first calls rightly.
        second: Which images the second calls rightly.
        patients: Of the images, where known: test and bounds are then Student's, of sums over the images of
            each patient, with the images added.
        level: Of the interval.

    References:
        McNemar, Q. (1947). Psychometrika 12, 153-157.
        Bonett, D. G. & Price, R. M. (2012). Adjusted Wald confidence interval for a difference of
        binomial proportions based on paired data. J. Educational and Behavioral Statistics 37, 479-488.
    """
    method = "McNemar, exact; bounds Bonett-Price"
    n, gained, lost = len(first), int(np.sum(second & ~first)), int(np.sum(first & ~second))
    if not n:
        return Difference(math.nan, math.nan, math.nan, math.nan, method)
    if patients is not None:
        gains = np.concatenate([second.astype(float) - first, [1.0, -1.0]])
        return _compare_sums((gained - lost) / n, gains, add_patients(patients, 2), level=level)
    # Even chances make the binomial symmetric: two tails are twice the shorter one.
    p_value = min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
    more, less = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = to_z(level) * math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    low, high = max(-1.0, more - less - half), min(1.0, more - less + half)
    return Difference((gained - lost) / n, low, high, p_value, method)


def _compare_sums(
    value: float, gains: Float64[np.ndarray, " n"], patients: Patients, *, level: float
) -> Difference:
    sums = np.bincount(patients, gains - gains.mean())
    error = math.sqrt(len(sums) * np.var(sums, ddof=1)) / len(gains)
    method = "Student of sums"
    one = to_student_difference(float(gains.mean()), error, len(sums) - 1, method=method, level=level)
    return _borrow_bounds(value, one)


def compare_by_bootstrap(
    rivals: Rivals, *, resamples: int, seed: int, level: float = LEVEL
) -> dict[str, Difference]:
    """Differences of all figures but the prevalence, by the paired stratified bootstrap."""
    values = {name: value for name, value in rivals.to_gains().items() if name != "prevalence"}
    gains = rivals.draw_gains(resamples=resamples, seed=seed)
    disputed = rivals.add_disagreements()
    added = disputed.draw_call_gains(resamples=resamples, seed=seed)
    if any(_is_mute(gains[name]) for name in values.keys() - added.keys()):
        added |= disputed.draw_gains(resamples=resamples, seed=seed)
    rarer = count_rarer(rivals.labels, rivals.patients)
    return {
        name: (
            _borrow_bounds(value, to_bootstrap_difference(value, added[name], level=level))
            if name in OF_CALLS or (name in added and _is_mute(gains[name]))
            else expand_difference(value, gains[name], images=rarer, level=level)
        )
        for name, value in values.items()
    }


def to_bootstrap_difference(value: float, gains: Draws, *, level: float = LEVEL) -> Difference:
    """Percentile interval of a difference, and the p-value at which the interval would reach 0.

    Resamples in which a figure is undefined are left out.
    """
    method = "bootstrap, paired, stratified, percentile"
    if math.isnan(value):
        return Difference(value, math.nan, math.nan, math.nan, method)
    gains = gains[~np.isnan(gains)]
    rarer_side = min(np.sum(gains <= 0), np.sum(gains >= 0))
    p_value = min(1.0, float(2 * (1 + rarer_side) / (1 + len(gains))))
    return Difference(value, *to_percentiles(gains, level=level), p_value, method)


def expand_difference(value: float, gains: Draws, *, images: int, level: float = LEVEL) -> Difference:
    """The same with percentiles further out: resamples of few images spread less than such images do.

    By as much as Student's interval of a mean is longer than one from resamples of the same images.

    Args:
        value: The difference.
        gains: Of resamples.
        images: Of the rarer class, which tells the least; patients where they are drawn.
        level: Of the interval.

    References:
        Hesterberg, T. C. (2015). What teachers should know about the bootstrap. The American
        Statistician 69, 371-386, section 4.3: expanded percentiles.
    """
    freedom = max(images, 2) - 1
    stretch = math.sqrt((freedom + 1) / freedom)
    tail = float(ndtr(stretch * stdtrit(freedom, (1 - level) / 2)))
    plain = to_bootstrap_difference(value, gains, level=1 - 2 * tail)
    p_value = float(2 * stdtr(freedom, ndtri(plain.p_value / 2) / stretch))
    return replace(plain, p_value=p_value, method="bootstrap, paired, stratified, expanded percentile")


def _is_mute(gains: Draws) -> bool:
    """Whether resamples say nothing of a difference, or do not always have one."""
    return bool(np.isnan(gains).any() or np.ptp(gains) <= ROUNDING)


def _borrow_bounds(value: float, disputed: Difference) -> Difference:
    """The difference of the images themselves, with bounds and p-value of those with disagreements added."""
    p_value = 1.0 if abs(value) <= ROUNDING else disputed.p_value
    low, high = min(disputed.low, value), max(disputed.high, value)
    return Difference(value, low, high, p_value, disputed.method + ADDED)
