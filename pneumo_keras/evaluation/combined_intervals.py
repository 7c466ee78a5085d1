"""Intervals of figures made of sensitivity and specificity, from Wilson's intervals of the two.

The distance from a figure to a bound is put together from those of its parts, each on its own side, as
the error of a sum of independent parts is: the method of variance estimates recovery (MOVER). Unlike a
bootstrap it has something to say of a classifier that made no mistake.

References:
    Newcombe, R. G. (1998). Interval estimation for the difference between independent proportions.
    Statistics in Medicine 17, 873-890, method 10.
    Zou, G. Y. & Donner, A. (2008). Construction of confidence limits about effect measures: a general
    approach. Statistics in Medicine 27, 1693-1702.
"""

import math

from pneumo_keras.evaluation.intervals import Interval

METHOD = "MOVER of Wilson"


def to_mean_interval(value: float, first: Interval, second: Interval, *, share: float = 0.5) -> Interval:
    """Interval of a weighted mean of two shares: of the balanced accuracy, of an accuracy.

    Args:
        value: The mean.
        first: Of the first share.
        second: Of the second, of other images than the first.
        share: Weight of the first; the second has the rest.
    """
    rest = 1 - share
    below = math.hypot(share * (first.value - first.low), rest * (second.value - second.low))
    above = math.hypot(share * (first.high - first.value), rest * (second.high - second.value))
    return Interval(value, value - below, value + above, METHOD)


def to_f1_interval(value: float, recall: Interval, other: Interval, *, share: float) -> Interval:
    """Interval of the F1 of a class.

    F1 rises with the Jaccard index, images of the class called the class among all that are the class or
    are called it. Its logarithm is a difference of two independent parts, one for each recall.

    Args:
        value: The F1; NaN bounds where a recall is undefined.
        recall: Of the class.
        other: Recall of the other class.
        share: Of the class among all images.
    """
    if math.isnan(recall.low) or math.isnan(other.low):
        return Interval(value, math.nan, math.nan, METHOD)
    # The more others are called the class, the larger the union: its bounds change sides.
    union, smallest, largest = (
        share + (1 - share) * (1 - right) for right in (other.value, other.high, other.low)
    )
    if recall.value == 0:
        return Interval(value, 0.0, _to_f1(share * recall.high / smallest), METHOD)
    below = math.hypot(math.log(recall.value / recall.low), math.log(largest / union))
    above = math.hypot(math.log(recall.high / recall.value), math.log(union / smallest))
    index = share * recall.value / union
    return Interval(value, _to_f1(index * math.exp(-below)), _to_f1(index * math.exp(above)), METHOD)


def _to_f1(index: float) -> float:
    return 2 * index / (1 + index)
