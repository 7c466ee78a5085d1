import io

import numpy as np
import pytest
from pneumo_keras.features.entry import CHUNK, Entry
from pneumo_keras.features.part import CHUNKS, Part, list_parts

N = CHUNKS * CHUNK + CHUNK + 3
FEATURES = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)


@pytest.fixture
def entry(tmp_path):
    return Entry(tmp_path, {"feature_layer": "mixed1"}, FEATURES.shape)


def take(part):
    return FEATURES[part.rows.start : part.rows.stop]


def test_parts_hold_every_chunk_and_every_image_once(entry):
    parts = list_parts(entry)
    assert [chunk for part in parts for chunk in part.chunks] == list(range(entry.array.count))
    assert [row for part in parts for row in part.rows] == list(range(N))
    assert [part.name for part in parts] == ["part-000000.npy", "part-000001.npy"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_part_comes_back_as_it_was(entry, number):
    part = Part(entry, number)
    content = part.encode(take(part))
    assert len(content) == part.size
    np.testing.assert_array_equal(part.decode(content), take(part))
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), take(part))
    for chunk, rows in part.split(part.decode(content)):
        there = entry.array.get_rows(chunk)
        np.testing.assert_array_equal(rows, FEATURES[there.start : there.stop])


def test_a_part_passes_at_no_other_place(entry, tmp_path):
    n = 2 * CHUNKS * CHUNK
    first, second = (Part(Entry(tmp_path, {"feature_layer": "a"}, (n, 4)), number) for number in (0, 1))
    other = Part(Entry(tmp_path, {"feature_layer": "b"}, (n, 4)), 0)
    content = first.encode(take(first))
    for part in (second, other):
        with pytest.raises(ValueError, match="its checksum is another"):
            part.decode(content)


def test_other_sizes_and_numbers_that_are_none_are_refused(entry):
    part = Part(entry, 1)
    content = part.encode(take(part))
    with pytest.raises(ValueError, match="it has 719 bytes and not 720"):
        part.decode(content[:-1])
    with pytest.raises(ValueError, match="not all of it are finite"):
        part.decode(part.encode(np.full_like(take(part), np.inf)))
    headless = bytearray(content)
    headless[:6] = b"\x93NUMPX"
    headless[-32:] = part._seal(memoryview(headless)[:-32])
    with pytest.raises(ValueError, match="its checksum is another"):
        part.decode(bytes(headless))
