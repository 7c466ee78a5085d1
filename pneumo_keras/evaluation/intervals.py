"""95 % confidence intervals, by three methods.

- A share of images (accuracy, sensitivity, specificity, precision, prevalence): Wilson's interval.
- The AUC: DeLong's standard error, symmetric in the logit.
- Every other metric: the standard error of a stratified bootstrap with Student's quantile, symmetric in the
  logit, of the log loss in the logarithm.

They hold for other images of the same kind, not for other hospitals or training runs. Where patients are
known, all three take the images of a patient together. Bounds are NaN where the images do not determine
them: where all resamples agree, for instance. How many intervals contain the true value is measured by
tests/evaluation/measure_coverage.py.
"""

import math
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float64, Int64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.metrics import (
    BINS,
    BootstrapValues,
    Predicted,
    ResampleWeights,
    has_both_classes,
    to_bin_index,
    to_figures,
    to_resampled_figures,
    weigh_images,
)
from pneumo_keras.evaluation.patients import Patients, count_rarer, list_strata, select_patients
from pneumo_keras.storage.documents import FloatOrNan

LEVEL = 0.95
Z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)
ROUNDING = 1e-12  # a standard error below this is none

RESAMPLES, FEWEST_RESAMPLES = 2000, 200
RESAMPLED = 20_000_000  # images in all resamples together: ten seconds of one core
BATCH_CELLS = 2**18  # images times resamples at once: 2 MB an array, which stays in the processor's cache

BOOTSTRAP, BY_PATIENT = "bootstrap, Student's t", ", by patient"

SHORT_INTERVALS, FEWEST_IMAGES = ("brier_loss", "log_loss"), 50
"""Metrics whose intervals are too short with fewer images of the rarer class, see docs/benchmarks.md.

An image with a confident wrong score has a large loss and rarely occurs in small samples.
"""
SHORT_COVERAGE = "87 %"
"""The lowest coverage of them in simulations, from 3 images of the rarer class on."""


@dataclass(frozen=True)
class Interval:
    """A metric with the bounds of its 95 % confidence interval, NaN where undefined, and their method."""

    value: FloatOrNan
    low: FloatOrNan
    high: FloatOrNan
    method: str


def choose_resamples(n: int) -> int:
    """How many resamples of n images are drawn: fewer of many images, whose standard errors are small.

    References:
        Efron, B. & Tibshirani, R. J. (1993). An introduction to the bootstrap. Chapman & Hall, chapter 6.4:
        200 are enough for a standard error.
    """
    return max(FEWEST_RESAMPLES, min(RESAMPLES, RESAMPLED // max(n, 1)))


def to_intervals(
    labels: Labels,
    scores: Scores,
    predicted: Predicted,
    *,
    prevalence: float | None = None,
    patients: Patients | None = None,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Every metric with its interval, see `to_figures`; the seed is that of the bootstrap."""
    values = to_figures(labels, scores, predicted, prevalence=prevalence)
    errors = estimate_errors(
        labels,
        lambda weights: to_resampled_figures(labels, scores, predicted, weights),
        prevalence=prevalence,
        patients=patients,
        resamples=resamples,
        seed=seed,
    )
    quantile = to_quantile(count_rarer(labels, patients) - 1)
    intervals = {
        name: to_bootstrap_interval(name, value, quantile * errors[name]) for name, value in values.items()
    }
    chance = to_chance_error(labels, scores, prevalence=prevalence, patients=patients)
    value, half = values["calibration_error"], quantile * errors["calibration_error"]
    intervals["calibration_error"] = to_calibration_interval(value, half, chance)
    intervals["auc"] = to_auc_interval(labels, scores, patients)
    pneumonia, every = labels == 1, labels >= 0
    shares = {"sensitivity": (predicted, pneumonia), "specificity": (~predicted, ~pneumonia)}
    if prevalence is None:
        shares |= {
            "accuracy": (predicted == pneumonia, every),
            "precision_pneumonia": (pneumonia, predicted),
            "precision_normal": (~pneumonia, ~predicted),
            "prevalence": (pneumonia, every),
        }
    intervals |= {name: to_share_interval(part, among, patients) for name, (part, among) in shares.items()}
    for name, one in intervals.items():
        low, high = (math.nan, math.nan) if math.isnan(values[name]) else (one.low, one.high)
        method = one.method if patients is None else one.method + BY_PATIENT
        intervals[name] = Interval(values[name], low, high, method)
    if prevalence is not None:
        intervals["prevalence"] = Interval(prevalence, prevalence, prevalence, "stated")
    return intervals


def list_short_intervals(intervals: Mapping[str, Interval], rarer: int) -> list[str]:
    """Metrics whose intervals are known to be too short for so few images of a class, or patients."""
    few = rarer < FEWEST_IMAGES
    return [name for name in SHORT_INTERVALS if few and not math.isnan(intervals[name].low)]


def to_quantile(freedom: float) -> float:
    """Student's quantile of a two-sided interval; NaN below one degree of freedom, normal if infinite."""
    return Z if math.isinf(freedom) else float(scipy.special.stdtrit(freedom, (1 + LEVEL) / 2))


def to_wilson_interval(share: float, n: float) -> Interval:
    """Wilson's interval of a share of n images; n may be a fraction or NaN, see `to_effective_size`.

    References:
        Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference.
        JASA 22, 209-212. Preferred to the Wald interval by Brown, Cai & DasGupta (2001).
    """
    if math.isnan(n):
        return Interval(share, math.nan, math.nan, "Wilson")
    centre, scale = 2 * n * share + Z**2, 2 * (n + Z**2)
    half = Z / scale * math.sqrt(4 * n * share * (1 - share) + Z**2)
    low, high = centre / scale - half, centre / scale + half
    return Interval(share, 0.0 if share == 0 else low, 1.0 if share == 1 else high, "Wilson")


def to_share_interval(
    part: Bool[np.ndarray, " n"], among: Bool[np.ndarray, " n"], patients: Patients | None = None
) -> Interval:
    """Wilson's interval of the share of `part` among some images; NaN of none."""
    inside = part[among]
    if not len(inside):
        return Interval(math.nan, math.nan, math.nan, "Wilson")
    own = select_patients(patients, among)
    size = len(inside) if own is None else to_effective_size(inside, own)
    return to_wilson_interval(float(inside.mean()), size)


def to_effective_size(part: Bool[np.ndarray, " n"], patients: Patients) -> float:
    """The number of independent images that would estimate the share equally precisely; NaN for one patient.

    The images by the design effect, shrunk by as much as Student's interval over patients is longer than the
    normal one. Where the share is 0 or 1 the design effect is the number of images a patient.

    References:
        Rao, J. N. K. & Scott, A. J. (1992). A simple method for the analysis of clustered binary data.
        Biometrics 48, 577-585.
        Korn, E. L. & Graubard, B. I. (1998). Confidence intervals for proportions with small expected number
        of positive counts estimated from survey data. Survey Methodology 24, 193-201: Student's quantile.
    """
    n, count, share = len(part), int(patients.max()) + 1, float(part.mean())
    if count < 2:
        return math.nan
    variance = count / (count - 1) * float(np.sum(np.bincount(patients, part - share) ** 2)) / n
    binomial = share * (1 - share)
    size = n / max(1.0, variance / binomial) if binomial else count
    return size * (Z / to_quantile(count - 1)) ** 2


def to_placements(labels: Labels, scores: Scores) -> Float64[np.ndarray, " n"]:
    """Of each pneumonia image the share of normal ones below it, of each normal one that of pneumonia above.

    Ties count one half. The mean over either class is the AUC. O(n log n).
    """
    placements = np.empty(len(labels))
    for label in (0, 1):
        others, own = np.sort(scores[labels != label]), scores[labels == label]
        # Left of equals and right of them: the mean splits ties.
        below = sum(np.searchsorted(others, own, side) for side in ("left", "right")) / (2 * len(others))
        placements[labels == label] = below if label else 1 - below
    return placements


def to_placement_error(
    placements: Float64[np.ndarray, " n"], labels: Labels, patients: Patients | None
) -> tuple[float, float]:
    """Standard error of the mean placement, and the degrees of freedom; NaN with one image of a class.

    DeLong's; of known patients Obuchowski's, where placements are summed over the images of a patient, with
    Welch's degrees of freedom. Patients are of two kinds, with and without pneumonia images.

    References:
        DeLong, E. R., DeLong, D. M. & Clarke-Pearson, D. L. (1988). Comparing the areas under two
        or more correlated receiver operating characteristic curves. Biometrics 44, 837-845.
        Obuchowski, N. A. (1997). Nonparametric analysis of clustered ROC curve data. Biometrics 53, 567-578.
    """
    parts = placements.copy()
    for label in (0, 1):
        inside = labels == label
        parts[inside] = (parts[inside] - parts[inside].mean()) / inside.sum()
    units, strata = list_strata(labels, patients)
    if min(map(len, strata)) < 2:
        return math.nan, math.nan
    sums = np.bincount(units, parts)
    variances = np.array([len(stratum) * np.var(sums[stratum], ddof=1) for stratum in strata])
    variance = variances.sum()
    if patients is None or not variance:
        return math.sqrt(variance), math.inf
    freedom = variance**2 / np.sum(variances**2 / [len(stratum) - 1 for stratum in strata])
    return math.sqrt(variance), float(freedom)


def to_auc_interval(labels: Labels, scores: Scores, patients: Patients | None = None) -> Interval:
    """DeLong's interval of an AUC, symmetric in its logit, which keeps the bounds inside [0, 1].

    Where DeLong's variance is 0 (the classes do not overlap) or undefined (one image of a class), Wilson's
    interval takes over, of as many images as the rarer class has: an AUC varies no more than such a share.

    References:
        Pepe, M. S. (2003). The statistical evaluation of medical tests, section 5.2: the logit.
        Bamber, D. (1975). The area above the ordinal dominance graph and the area below the receiver
        operating characteristic graph. J. Mathematical Psychology 12, 387-415: the largest variance.
    """
    if not has_both_classes(labels):
        return Interval(math.nan, math.nan, math.nan, "DeLong, logit")
    placements = to_placements(labels, scores)
    auc = float(placements[labels == 1].mean())
    error, freedom = to_placement_error(placements, labels, patients)
    if not error > 0 or not 0 < auc < 1:
        return to_wilson_interval(auc, count_rarer(labels, patients))
    return _to_logit_interval(auc, to_quantile(freedom) * error, "DeLong, logit")


def _to_logit_interval(value: float, half: float, method: str) -> Interval:
    """Symmetric in the logit, where the half width grows by the slope of the logit (delta method)."""
    centre, half = scipy.special.logit(value), half / (value * (1 - value))
    return Interval(
        value, float(scipy.special.expit(centre - half)), float(scipy.special.expit(centre + half)), method
    )


def estimate_errors(
    labels: Labels,
    measure: Callable[[ResampleWeights], dict[str, BootstrapValues]],
    *,
    prevalence: float | None,
    patients: Patients | None,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Standard errors of metrics by the stratified bootstrap; 0 where all resamples agree.

    `measure` takes weights of the images to figures of each resample. Images are drawn with replacement, as
    many of each class as there are. Where patients are known, they are drawn with all their images, and
    images are weighted so that classes keep their shares. Resampling m images leaves out 1 / m of their
    variance, which is put back by the rarer class. Resamples in which a figure is undefined are left out. NaN
    with one image, or patient, of a class: its variance is unknown.

    References:
        Efron, B. & Tibshirani, R. J. (1993). An introduction to the bootstrap. Chapman & Hall, chapters 6
        and 8 (two samples), 12.5 (Student's quantile).
        Hesterberg, T. C. (2015). What teachers should know about the bootstrap. The American
        Statistician 69, 371-386: the bootstrap's error in small samples.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap  # takes a second to import

    units, strata = list_strata(labels, patients)
    weights = weigh_images(labels, prevalence)
    names = list(measure(weights[None]))
    rarer, n_units = min(map(len, strata)), int(units.max()) + 1
    if rarer < 2:
        return dict.fromkeys(names, math.nan)

    def measure_resamples(
        *drawn: Int64[np.ndarray, "batch _stratum"], axis: int
    ) -> Float64[np.ndarray, "figures batch"]:
        rows = np.concatenate(drawn, axis=axis)
        cells = rows + n_units * np.arange(len(rows))[:, None]
        counts = np.bincount(cells.ravel(), minlength=len(rows) * n_units).reshape(len(rows), n_units)
        return np.stack(list(measure(_weigh_resamples(counts[:, units], labels, weights)).values()))

    with warnings.catch_warnings():
        # Of percentiles, which are not asked for, where a resample lacks a metric.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            strata,
            measure_resamples,
            n_resamples=resamples,
            batch=max(1, BATCH_CELLS // len(labels)),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    draws = np.ma.masked_invalid(found.bootstrap_distribution)
    errors = draws.std(axis=1).filled(np.nan) * math.sqrt(rarer / (rarer - 1))
    return dict(zip(names, errors.tolist(), strict=True))


def _weigh_resamples(
    counts: Int64[np.ndarray, "resamples n"], labels: Labels, weights: Float64[np.ndarray, " n"]
) -> ResampleWeights:
    """Weights of drawn images, with the sums over each class that all images have."""
    drawn = counts * weights
    for inside in (labels == label for label in np.unique(labels)):
        total = drawn[:, inside].sum(axis=1, keepdims=True)
        drawn[:, inside] *= weights[inside].sum() / np.where(total, total, np.nan)
    return drawn


def to_bootstrap_interval(name: str, value: float, half: float) -> Interval:
    """Interval symmetric in the logit, of the log loss in the logarithm; NaN where no resample differs.

    `half` is Student's quantile times the standard error.

    References:
        Boyd, K., Eng, K. H. & Page, C. D. (2013). Area under the precision-recall curve: point
        estimates and confidence intervals. ECML PKDD, 451-466: the logit.
    """
    if name == "log_loss":
        method = f"{BOOTSTRAP}, log"
        if not half > ROUNDING:
            return Interval(value, math.nan, math.nan, method)
        return Interval(value, value * math.exp(-half / value), value * math.exp(half / value), method)
    method = f"{BOOTSTRAP}, logit"
    if half > ROUNDING and 0 < value < 1:
        return _to_logit_interval(value, half, method)
    return Interval(value, math.nan, math.nan, method)


def to_calibration_interval(value: float, half: float, chance: float) -> Interval:
    """Interval of a calibration error, whose lower bound is lower by the error that chance alone gives.

    Noise of the bins makes a calibration error larger, by as much as `chance` if scores are calibrated: 0 is
    included where chance explains the error.
    """
    method = f"{BOOTSTRAP}, less chance"
    if not half > ROUNDING:
        return Interval(value, math.nan, math.nan, method)
    return Interval(value, max(0.0, value - chance - half), min(1.0, value + half), method)


def to_chance_error(
    labels: Labels, scores: Scores, *, prevalence: float | None = None, patients: Patients | None = None
) -> float:
    """Mean calibration error of scores that are calibrated: what chance alone gives, in normal approximation.

    The sum of score less label over a bin is then of mean 0, and its mean absolute value sqrt(2 / pi) times
    its standard deviation, which the squares of the sums over each image, or patient, add up to.

    References:
        Bröcker, J. & Smith, L. A. (2007). Increasing the reliability of reliability diagrams.
        Weather and Forecasting 22, 651-661: the errors of calibrated scores.
    """
    units, _ = list_strata(labels, patients)
    sums = np.zeros((int(units.max()) + 1, BINS))
    np.add.at(sums, (units, to_bin_index(scores)), weigh_images(labels, prevalence) * (scores - labels))
    return float(np.sqrt(2 / np.pi * (sums**2).sum(axis=0)).sum() / len(labels))
