"""Two classifiers on the same images: is the second better, or is it chance?

Differences are second minus first. Images are paired, so intervals are much shorter than those of two
separate metrics: overlapping intervals of two classifiers do not mean that they are equal.

The AUC has DeLong's paired test, shares of images have McNemar's, every other metric the paired stratified
bootstrap. Where patients are known, DeLong's test and the bootstrap take the images of a patient together,
and the bootstrap replaces McNemar's test, which cannot.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Bool

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.intervals import (
    BOOTSTRAP,
    BY_PATIENT,
    ROUNDING,
    Z,
    choose_resamples,
    estimate_errors,
    to_placement_error,
    to_placements,
    to_quantile,
)
from pneumo_keras.evaluation.metrics import (
    BootstrapValues,
    ResampleWeights,
    check_scores,
    has_both_classes,
    to_resampled_figures,
    weigh_images,
)
from pneumo_keras.evaluation.patients import Patients, count_rarer
from pneumo_keras.storage.documents import FloatOrNan


@dataclass(frozen=True)
class Difference:
    """Second minus first, with the bounds of its 95 % confidence interval, NaN where undefined.

    The p-value is two-sided; the method is that of bounds and p-value.
    """

    value: FloatOrNan
    low: FloatOrNan
    high: FloatOrNan
    p_value: FloatOrNan
    method: str


def compare_figures(
    labels: Labels,
    first: Scores,
    second: Scores,
    *,
    first_threshold: float,
    second_threshold: float,
    resamples: int | None = None,
    seed: int,
    patients: Patients | None = None,
    prevalence: float | None = None,
) -> dict[str, Difference]:
    """Differences of all metrics except the prevalence, second minus first; the seed is the bootstrap's.

    With a `prevalence`, scores and metrics are those of a population with it. McNemar's test takes no
    weights: the accuracy is then bootstrapped, too.

    Raises:
        DataError: There are no images, labels or scores are out of range, or a prevalence is stated for
            images of one class.
    """
    check_scores(labels, first)
    check_scores(labels, second)
    resamples = resamples or choose_resamples(len(labels))
    predicted = first > first_threshold, second > second_threshold

    def measure(weights: ResampleWeights) -> dict[str, BootstrapValues]:
        before, after = (
            to_resampled_figures(labels, scores, of_scores, weights)
            for scores, of_scores in zip((first, second), predicted, strict=True)
        )
        return {name: after[name] - before[name] for name in before if name != "prevalence"}

    options = {"prevalence": prevalence, "patients": patients, "resamples": resamples, "seed": seed}
    errors = estimate_errors(labels, measure, **options)
    freedom = count_rarer(labels, patients) - 1
    differences = {
        name: to_difference(float(value[0]), errors[name], freedom, method=f"{BOOTSTRAP}, paired")
        for name, value in measure(weigh_images(labels, prevalence)[None]).items()
    }
    differences["auc"] = compare_aucs(labels, first, second, patients)
    if patients is not None:
        return {name: replace(one, method=one.method + BY_PATIENT) for name, one in differences.items()}
    shares = {"sensitivity": labels == 1, "specificity": labels == 0}
    if prevalence is None:
        shares["accuracy"] = labels >= 0
    before, after = (of_scores == (labels == 1) for of_scores in predicted)
    for name, images in shares.items():
        differences[name] = compare_shares(before[images], after[images])
    return differences


def to_difference(value: float, error: float, freedom: float, *, method: str) -> Difference:
    """A difference within Student's interval, the normal one for infinite degrees of freedom.

    Bounds are NaN where the error is 0 or NaN: images on which two classifiers do not differ do not show how
    far they may differ on others.
    """
    if not error > ROUNDING:
        p_value = 1.0 if abs(value) <= ROUNDING else math.nan
        return Difference(value, math.nan, math.nan, p_value, method)
    half, ratio = to_quantile(freedom) * error, -abs(value) / error
    p_value = 2 * float(
        scipy.special.ndtr(ratio) if math.isinf(freedom) else scipy.special.stdtr(freedom, ratio)
    )
    return Difference(value, value - half, value + half, p_value, method)


def compare_aucs(
    labels: Labels, first: Scores, second: Scores, patients: Patients | None = None
) -> Difference:
    """Difference of two AUCs on the same images, by DeLong's test; see `to_placement_error`."""
    method = "DeLong, paired"
    if not has_both_classes(labels):
        return Difference(math.nan, math.nan, math.nan, math.nan, method)
    gains = to_placements(labels, second) - to_placements(labels, first)
    error, freedom = to_placement_error(gains, labels, patients)
    return to_difference(float(gains[labels == 1].mean()), error, freedom, method=method)


def compare_shares(first: Bool[np.ndarray, " images"], second: Bool[np.ndarray, " images"]) -> Difference:
    """Difference of two shares of the same images (accuracy, sensitivity), by McNemar's exact test.

    Takes which images each predicts rightly. The bounds are Bonett and Price's: Wald's, after adding one
    image to each kind of disagreement. Test and bounds may disagree in a close case.

    References:
        McNemar, Q. (1947). Psychometrika 12, 153-157.
        Bonett, D. G. & Price, R. M. (2012). Adjusted Wald confidence interval for a difference of
        binomial proportions based on paired data. J. Educational and Behavioral Statistics 37, 479-488.
    """
    method = "McNemar, exact; bounds Bonett-Price"
    n, gained, lost = len(first), int(np.sum(second & ~first)), int(np.sum(first & ~second))
    if not n:
        return Difference(math.nan, math.nan, math.nan, math.nan, method)
    # Even chances make the binomial symmetric: two tails are twice the shorter one.
    p_value = min(1.0, 2 * float(scipy.special.bdtr(min(gained, lost), gained + lost, 0.5)))
    more, less = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    low, high = max(-1.0, more - less - half), min(1.0, more - less + half)
    return Difference((gained - lost) / n, low, high, p_value, method)
