import json
import math
from dataclasses import dataclass

import pytest

from pneumo_keras.errors import RunError
from pneumo_keras.storage.documents import FloatOrNan, parse_document, to_document


@dataclass(frozen=True)
class Figure:
    value: FloatOrNan
    method: str


@dataclass(frozen=True)
class Card:
    n: int
    share: float
    figures: dict[str, Figure]
    values: tuple[FloatOrNan, ...]
    stated: float | None

    def __post_init__(self):
        if self.n < 0:
            raise ValueError("'n' must not be negative")


CARD = Card(3, 0.5, {"auc": Figure(0.25, "DeLong")}, (1.0, 2.0), None)
DOCUMENT = {
    "n": 3,
    "share": 0.5,
    "figures": {"auc": {"value": 0.25, "method": "DeLong"}},
    "values": [1.0, 2.0],
    "stated": None,
}


def test_a_document_is_plain_json_and_comes_back():
    assert to_document(CARD) == DOCUMENT
    assert parse_document(Card, json.dumps(DOCUMENT), name="card.json") == CARD


def test_nan_is_null_and_comes_back():
    card = Card(1, 0.5, {"auc": Figure(math.nan, "")}, (math.nan,), None)
    document = to_document(card)
    assert document["figures"]["auc"]["value"] is None and document["values"] == [None]
    back = parse_document(Card, json.dumps(document, allow_nan=False), name="card.json")
    assert math.isnan(back.figures["auc"].value) and math.isnan(back.values[0])


def test_a_whole_number_may_stand_for_a_share():
    assert parse_document(Card, json.dumps(DOCUMENT | {"share": 1}), name="card.json").share == 1.0


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({}, "'n' is missing. Received: {}"),
        (DOCUMENT | {"n": "3"}, "'n' should be a valid integer. Received: '3'"),
        (DOCUMENT | {"share": None}, "'share' should be a valid number. Received: None"),
        (DOCUMENT | {"figures": {"auc": {}}}, "'figures.auc.value' is missing. Received: {}"),
        (DOCUMENT | {"values": [1.0, "x"]}, "'values.1' should be a valid number. Received: 'x'"),
        (
            DOCUMENT | {"share": math.inf},
            "Infinity is not a number of a sensible size. Received: "
            + repr(json.dumps(DOCUMENT | {"share": math.inf})[:100]),
        ),
        (DOCUMENT | {"more": 1}, "'more' is unknown. Received: 1"),
        (
            DOCUMENT | {"figures": {"auc": {"value": 1.0, "method": "", "more": [1]}}},
            "'figures.auc.more' is unknown. Received: [1]",
        ),
    ],
)
def test_what_is_no_such_document_is_one_line(document, fault):
    with pytest.raises(RunError) as error:
        parse_document(Card, json.dumps(document), name="runs/a/card.json")
    assert str(error.value) == f"runs/a/card.json is damaged: {fault}. Train or evaluate again."


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2]", "null", "7", '{"n": 3}' * 2, "[" * 10**6, '{"n": 1e999}', f'{{"n": {"9" * 5000}}}'],
)
def test_what_is_no_json_object_is_one_line(text):
    with pytest.raises(
        RunError, match=r"^card\.json is damaged: .* Received: .*\. Train or evaluate again\.$"
    ):
        parse_document(Card, text, name="card.json")


def test_a_rule_of_the_class_itself_is_told():
    with pytest.raises(RunError, match=r"^card\.json is damaged: 'n' must not be negative\. Received: {"):
        parse_document(Card, json.dumps(DOCUMENT | {"n": -1}), name="card.json")


def test_what_was_received_is_cut_short():
    with pytest.raises(RunError) as error:
        parse_document(Card, json.dumps(DOCUMENT | {"n": "9" * 5000}), name="card.json")
    assert len(str(error.value)) < 250
