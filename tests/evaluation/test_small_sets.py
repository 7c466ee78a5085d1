import math

import pytest

from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import Interval
from pneumo_keras.evaluation.metrics import ConfusionCounts
from pneumo_keras.evaluation.small_sets import (
    FEWEST_FILMS,
    FEWEST_FILMS_PAIRED,
    list_short_differences,
    list_short_intervals,
)

LOSSES = ["brier_loss", "log_loss"]
DEFINED = dict.fromkeys(FEWEST_FILMS, Interval(0.5, 0.4, 0.6, ""))


@pytest.mark.parametrize(
    ("tn", "fp", "fn", "tp", "short"),
    [
        (10, 2, 3, 9, []),
        (0, 0, 3, 9, []),
        (10, 1, 3, 900, LOSSES),
        (900, 1, 3, 8, LOSSES),
        (3, 2, 0, 90, [*LOSSES, "f1_pneumonia", "f1_normal", "calibration_error"]),
    ],
)
def test_the_rarer_class_decides_which_intervals_are_too_short(tn, fp, fn, tp, short):
    assert list_short_intervals(ConfusionCounts(tn, fp, fn, tp), DEFINED) == short


def test_a_figure_without_an_interval_has_none_that_is_too_short():
    intervals = DEFINED | {"brier_loss": Interval(0.0, math.nan, math.nan, "")}
    assert list_short_intervals(ConfusionCounts(8, 0, 0, 9), intervals) == ["log_loss"]


@pytest.mark.parametrize(("tn", "short"), [(12, []), (11, ["average_precision", *LOSSES])])
def test_differences_of_few_films_are_too_short_in_figures_of_their_own(tn, short):
    defined = dict.fromkeys(FEWEST_FILMS_PAIRED, Difference(0.1, 0.0, 0.2, 0.5, ""))
    assert list_short_differences(ConfusionCounts(tn, 0, 3, 9), defined) == short
