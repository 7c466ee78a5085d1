"""Two classifiers on the same films: is the second better, or is it chance?

Differences are second minus first. Films are paired, so intervals are much shorter than those of two
separate figures: overlapping intervals of two classifiers do not say that they are equal.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.bootstrap import RESAMPLES, draw_figures, to_percentiles
from pneumo_keras.evaluation.figures import Draws, to_figures
from pneumo_keras.evaluation.intervals import (
    LEVEL,
    to_json_number,
    to_placement_variance,
    to_placements,
    to_z,
)
from pneumo_keras.evaluation.metrics import has_both_classes


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

    value: float
    low: float
    high: float
    p_value: float
    method: str

    def to_dict(self) -> dict[str, float | str | None]:
        """For JSON, which knows no NaN: None instead."""
        return {
            "value": to_json_number(self.value),
            "low": to_json_number(self.low),
            "high": to_json_number(self.high),
            "p_value": to_json_number(self.p_value),
            "method": self.method,
        }


def compare_aucs(labels: Labels, first: Scores, second: Scores, *, level: float = LEVEL) -> Difference:
    """Difference of two AUCs on the same films, by DeLong's test.

    Without any variance (the same ranking of the classes by both) bounds are NaN, and the p-value is
    1 for equal AUCs.

    References:
        DeLong, DeLong & Clarke-Pearson (1988); Sun & Xu (2014). See `intervals`.
    """
    method = "DeLong, paired"
    if not has_both_classes(labels):
        return Difference(math.nan, math.nan, math.nan, math.nan, method)
    first_pneumonia, first_normal = to_placements(labels, first)
    second_pneumonia, second_normal = to_placements(labels, second)
    gains = second_pneumonia - first_pneumonia
    value = float(gains.mean())
    variance = to_placement_variance(gains, second_normal - first_normal)
    if not variance > 0:
        return Difference(value, math.nan, math.nan, math.nan if value else 1.0, method)
    error = math.sqrt(variance)
    half = to_z(level) * error
    p_value = float(2 * norm.sf(abs(value) / error))
    return Difference(value, value - half, value + half, p_value, method)


def compare_accuracies(
    labels: Labels,
    first: Scores,
    second: Scores,
    *,
    first_threshold: float,
    second_threshold: float,
    level: float = LEVEL,
) -> Difference:
    """Difference of two accuracies on the same films, by McNemar's exact test.

    The bounds are Bonett and Price's: Wald's, after adding one film to each kind of disagreement.
    Test and bounds may disagree in a close case.

    References:
        McNemar, Q. (1947). Psychometrika 12, 153-157.
        Bonett, D. G. & Price, R. M. (2012). Adjusted Wald confidence interval for a difference of
        binomial proportions based on paired data. J. Educational and Behavioral Statistics 37, 479-488.
    """
    first_right = (first > first_threshold) == (labels == 1)
    second_right = (second > second_threshold) == (labels == 1)
    gained = int(np.sum(second_right & ~first_right))
    lost = int(np.sum(first_right & ~second_right))
    n = len(labels)
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    more, less = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = to_z(level) * math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    low, high = max(-1.0, more - less - half), min(1.0, more - less + half)
    return Difference((gained - lost) / n, low, high, p_value, "McNemar, exact; bounds Bonett-Price")


def to_bootstrap_difference(value: float, gains: Draws, *, level: float = LEVEL) -> Difference:
    """Percentile interval of a difference, and the p-value at which the interval would reach 0."""
    method = "bootstrap, paired, stratified, percentile"
    if np.isnan(gains).any() or math.isnan(value):
        return Difference(value, math.nan, math.nan, math.nan, method)
    rarer_side = min(np.sum(gains <= 0), np.sum(gains >= 0))
    p_value = min(1.0, float(2 * (1 + rarer_side) / (1 + len(gains))))
    return Difference(value, *to_percentiles(gains, level=level), p_value, method)


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
) -> dict[str, Difference]:
    """Differences of all figures, second minus first: by DeLong, McNemar, the rest by bootstrap.

    Raises:
        DataError: There are no films, or labels or scores are out of range.
    """
    before, after = to_figures(labels, first, first_threshold), to_figures(labels, second, second_threshold)
    classifiers = [(first, first_threshold), (second, second_threshold)]
    first_draws, second_draws = draw_figures(labels, classifiers, resamples=resamples, seed=seed)
    differences = {
        name: to_bootstrap_difference(
            after[name] - before[name], second_draws[name] - first_draws[name], level=level
        )
        for name in before
        if name != "prevalence"
    }
    differences["auc"] = compare_aucs(labels, first, second, level=level)
    differences["accuracy"] = compare_accuracies(
        labels,
        first,
        second,
        first_threshold=first_threshold,
        second_threshold=second_threshold,
        level=level,
    )
    return differences
