"""Readers of files that anybody may have written: they take what was written, the rest is one line."""

import io
import json
import math
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.scores import format_scores, parse_scores
from pneumo_keras.storage.bounded_reading import load_npz
from pneumo_keras.storage.documents import FloatOrNan, parse_document, to_document
from pneumo_keras.storage.printable import to_cell


def check_line(text):
    assert "\n" not in text
    assert 0 < len(text) < 1000


NUMBERS = st.sampled_from(["u1", "<i2", ">i4", "<f4", ">f8", "?"])
SCORES = st.lists(st.tuples(st.sampled_from([0, 1]), st.floats(0, 1)), min_size=1, max_size=20)


@given(NUMBERS.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3))), st.booleans())
def test_arrays_come_back_as_they_were_saved(tmp_path, array, packed):
    (np.savez_compressed if packed else np.savez)(tmp_path / "x.npz", x=np.asfortranarray(array))
    (read,) = load_npz(tmp_path / "x.npz", ["x"])
    assert read.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, array)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text("{}'descrfotanhp:, |u1()<8O0\"", max_size=120).map(
            lambda text: b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(40)
        ),
    )
)
def test_any_bytes_are_an_array_or_one_line(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    try:
        load_npz(tmp_path / "x.npz", ["x"])
    except (OSError, ValueError) as error:
        check_line(str(error).replace(str(tmp_path), ""))
    else:
        np.load(io.BytesIO(content), allow_pickle=False)  # NumPy takes it, too


@given(SCORES)
def test_scores_come_back_to_the_bit(rows):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    text = format_scores(labels.astype(np.int64), scores.astype(np.float64))
    read = parse_scores(text, name="s.csv")
    assert (read.labels.tolist(), read.scores.tolist()) == (labels.tolist(), scores.tolist())


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_whatever_files_and_patients_are_called_scores_come_back(names):
    files, patients = zip(*names, strict=True)
    labels, scores = np.ones(len(names), np.int64), np.linspace(0, 1, len(names))
    read = parse_scores(format_scores(labels, scores, files, patients), name="s.csv")
    assert read.scores.tolist() == scores.tolist()
    assert (read.files, read.patients) == (tuple(map(to_cell, files)), tuple(map(to_cell, patients)))


@given(SCORES, st.data())
def test_a_changed_character_of_scores_is_refused_or_read_as_it_stands(rows, data):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    text = format_scores(labels.astype(np.int64), scores.astype(np.float64))
    place = data.draw(st.integers(0, len(text) - 1))
    sign = data.draw(st.sampled_from([*" \t\n\r_+-.,eEx0123456789", "٣", "\u2028", "\ufeff", "\x00", ""]))
    changed = text[:place] + sign + text[place + 1 :]
    try:
        read = parse_scores(changed, name="s.csv")
    except DataError as error:
        check_line(str(error))
    else:
        assert format_scores(read.labels, read.scores) == changed


@dataclass(frozen=True)
class Card:
    name: str
    share: FloatOrNan
    counts: dict[str, int]


CARDS = st.builds(
    Card,
    st.text(st.characters(exclude_categories=["Cs"])),
    st.floats(allow_infinity=False),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers(0, 2**60)),
)


@given(CARDS)
def test_documents_come_back_as_they_were(card):
    back = parse_document(Card, json.dumps(to_document(card), allow_nan=False), name="card.json")
    assert (back.name, back.counts) == (card.name, card.counts)
    assert back.share == card.share or (math.isnan(back.share) and math.isnan(card.share))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "share", "counts", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(JSON.map(json.dumps) | st.text(max_size=60) | st.integers(1, 100_000).map(lambda n: "[" * n))
def test_any_text_is_a_document_or_one_line(text):
    try:
        card = parse_document(Card, text, name="card.json")
    except RunError as error:
        check_line(str(error))
    else:
        assert json.loads(text)["name"] == card.name


def test_a_value_beyond_all_bounds_is_no_number():
    for value in ("NaN", "-Infinity", "1e999", "1" * 30):
        with pytest.raises(RunError, match="not a number of a sensible size"):
            parse_document(Card, f'{{"name": "x", "share": {value}, "counts": {{}}}}', name="card.json")
