import math

import pytest

from pneumo_keras.evaluation.spread import Spread, to_spreads


def test_mean_and_deviation_by_hand():
    spread = Spread((1.0, 2.0, 6.0))
    assert (spread.mean, spread.deviation) == pytest.approx((3.0, math.sqrt(7.0)))


def test_one_member_has_no_deviation():
    assert math.isnan(Spread((0.9,)).deviation)
    assert Spread((0.9,)).to_dict() == {"mean": 0.9, "deviation": None, "values": [0.9]}


def test_an_undefined_figure_is_none_in_json():
    assert Spread((math.nan, 0.5)).to_dict() == {"mean": None, "deviation": None, "values": [None, 0.5]}


def test_spreads_are_by_figure():
    spreads = to_spreads([{"auc": 0.9, "accuracy": 0.8}, {"auc": 0.7, "accuracy": 0.6}])
    assert {name: spread.values for name, spread in spreads.items()} == {
        "auc": (0.9, 0.7),
        "accuracy": (0.8, 0.6),
    }
