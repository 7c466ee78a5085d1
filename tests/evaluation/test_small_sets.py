import math

import pytest

from pneumo_keras.evaluation.intervals import Interval
from pneumo_keras.evaluation.metrics import ConfusionCounts
from pneumo_keras.evaluation.small_sets import FEWEST_FILMS, list_short_intervals

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
