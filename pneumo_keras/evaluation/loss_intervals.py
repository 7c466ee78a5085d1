"""Interval of a loss that is a mean over images: few images cost most of it, and it is skewed to the right."""

import math

import numpy as np
from jaxtyping import Float64
from scipy.special import stdtrit

from pneumo_keras.arrays import Labels
from pneumo_keras.evaluation.intervals import LEVEL, ROUNDING, Interval
from pneumo_keras.evaluation.patients import Patients, list_sums

Losses = Float64[np.ndarray, " n"]
"""What each image costs, times its weight."""

METHOD = "Hall, Welch's t"
STRAIGHT = 1e-6  # skewness below this moves no bound that is shown


def to_loss_interval(
    value: float, labels: Labels, losses: Losses, patients: Patients | None = None, *, level: float = LEVEL
) -> Interval:
    """Interval of a mean loss of as many images of each class as there are.

    Student's t of the mean is as skewed as the losses; Hall's cubic takes the skewness out, its inverse
    puts it into the bounds. The degrees of freedom are Welch's, as the classes differ in spread. NaN
    where a class has but one image or all losses of each class agree: that says nothing of their spread.

    Args:
        value: The mean loss.
        labels: Of the images.
        losses: Of the images, none negative; their mean is the value.
        patients: Of the images, where known: their losses are summed.
        level: Of the interval.

    References:
        Hall, P. (1992). On the removal of skewness by transformation. J. R. Statist. Soc. B 54, 221-228.
        Zhou, X. H. & Dinh, P. (2005). Nonparametric confidence intervals for the one- and two-sample
        problems. Biostatistics 6, 187-200: for two samples.
    """
    classes = [losses[labels == label] for label in np.unique(labels)]
    if patients is not None:
        means = np.array([losses[labels == label].mean() for label in labels])
        classes = list_sums(losses - means, labels, patients)
    if min(len(images) for images in classes) < 2 or max(np.ptp(images) for images in classes) <= ROUNDING:
        return Interval(value, math.nan, math.nan, METHOD)
    # What each class adds to variance and third moment of the sum of all losses.
    variances = np.array([len(images) * np.var(images, ddof=1) for images in classes])
    thirds = sum(float(np.sum((images - images.mean()) ** 3)) for images in classes)
    variance = float(variances.sum())
    freedom = variance**2 / float(np.sum(variances**2 / [len(images) - 1 for images in classes]))
    quantile = float(stdtrit(freedom, (1 + level) / 2))
    skewness, error = thirds / variance**1.5, math.sqrt(variance) / len(losses)
    low = value - error * _restore_skewness(quantile, skewness)
    high = value - error * _restore_skewness(-quantile, skewness)
    return Interval(value, max(0.0, low), high, METHOD)


def _restore_skewness(quantile: float, skewness: float) -> float:
    """Where Hall's cubic, t + skewness t^2 / 3 + skewness^2 t^3 / 27 + skewness / 6, is the quantile."""
    if abs(skewness) < STRAIGHT:
        return quantile
    return (math.cbrt(1 + skewness * (quantile - skewness / 6)) - 1) * 3 / skewness
