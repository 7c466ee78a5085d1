import json
import math

import pytest

from pneumo_keras.evaluation.spread import MemberSpread, to_member_spread, to_member_spreads
from pneumo_keras.storage.documents import parse_document, to_document


def test_mean_and_deviation_by_hand():
    spread = to_member_spread([1.0, 2.0, 6.0])
    assert (spread.mean, spread.deviation) == pytest.approx((3.0, math.sqrt(7.0)))


def test_one_member_has_no_deviation():
    assert to_document(to_member_spread([0.9])) == {"mean": 0.9, "deviation": None, "values": [0.9]}


def test_an_undefined_figure_is_null_in_json():
    document = to_document(to_member_spread([math.nan, 0.5]))
    assert document == {"mean": None, "deviation": None, "values": [None, 0.5]}
    back = parse_document(MemberSpread, json.dumps(document), name="spread.json")
    assert math.isnan(back.values[0]) and back.values[1] == 0.5


def test_spreads_are_by_figure():
    spreads = to_member_spreads([{"auc": 0.9, "accuracy": 0.8}, {"auc": 0.7, "accuracy": 0.6}])
    assert {name: spread.values for name, spread in spreads.items()} == {
        "auc": (0.9, 0.7),
        "accuracy": (0.8, 0.6),
    }
