import math

import pytest

from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import Interval
from pneumo_keras.evaluation.small_sets import (
    FEWEST_IMAGES,
    FEWEST_IMAGES_PAIRED,
    list_short_differences,
    list_short_intervals,
)

LOSSES = ["brier_loss", "log_loss"]
DEFINED = dict.fromkeys(FEWEST_IMAGES, Interval(0.5, 0.4, 0.6, ""))


@pytest.mark.parametrize(
    ("rarer", "short"),
    [(12, []), (11, LOSSES), (5, [*LOSSES, "f1_pneumonia", "f1_normal", "calibration_error"])],
)
def test_the_rarer_class_decides_which_intervals_are_too_short(rarer, short):
    assert list_short_intervals(rarer, DEFINED) == short


def test_a_figure_without_an_interval_has_none_that_is_too_short():
    intervals = DEFINED | {"brier_loss": Interval(0.0, math.nan, math.nan, "")}
    assert list_short_intervals(8, intervals) == ["log_loss"]


@pytest.mark.parametrize(("rarer", "short"), [(12, []), (11, ["average_precision", *LOSSES])])
def test_differences_of_few_images_are_too_short_in_figures_of_their_own(rarer, short):
    defined = dict.fromkeys(FEWEST_IMAGES_PAIRED, Difference(0.1, 0.0, 0.2, 0.5, ""))
    assert list_short_differences(rarer, defined) == short
