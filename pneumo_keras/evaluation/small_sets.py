"""Sets of images so small that some intervals are known to hold the true figure less often than they say."""

import math
from collections.abc import Mapping

from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import Interval

FEWEST_IMAGES = {"brier_loss": 12, "log_loss": 12, "f1_pneumonia": 6, "f1_normal": 6, "calibration_error": 6}
"""Images of the rarer class from which 95 % intervals of a figure hold the true one.

In simulations (docs/benchmarks.md) sets of 10, 20 and 40 images had 3, 6 and 12 of the rarer class. Below
the number here fewer than 93 % of the intervals held: of the losses 90 to 93 % with 6 images and 77 to
87 % with 3, with 3 of F1 from 92 % and of the calibration error from 84 %. An image with a confident
wrong score is rare, dear, and seldom among so few.
"""

FEWEST_IMAGES_PAIRED = {"average_precision": 12, "brier_loss": 12, "log_loss": 12}
"""The same of differences between two classifiers: with 6 images of the rarer class 86 to 89 % of those of the
average precision held, 88 to 95 % of those of the losses."""


def list_short_intervals(rarer: int, intervals: Mapping[str, Interval]) -> list[str]:
    """Figures whose intervals, where they have one, are known to be too short for so few images, by name.

    Args:
        rarer: Images of the rarer class; its patients, where the images of one are taken together.
        intervals: By the name of the figure.
    """
    return _list_short(rarer, intervals, FEWEST_IMAGES)


def list_short_differences(rarer: int, differences: Mapping[str, Difference]) -> list[str]:
    """The same of paired differences."""
    return _list_short(rarer, differences, FEWEST_IMAGES_PAIRED)


def _list_short(
    rarer: int, intervals: Mapping[str, Interval | Difference], fewest_images: Mapping[str, int]
) -> list[str]:
    return [
        name
        for name, fewest in fewest_images.items()
        if rarer < fewest and not math.isnan(intervals[name].low)
    ]
