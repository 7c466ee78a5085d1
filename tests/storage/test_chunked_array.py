import os

import numpy as np
import pytest

from pneumo_keras.storage.chunked_array import ChunkedArray
from tests.damage import mutate

ROWS = np.random.default_rng(0).normal(3, 2, (70, 4)).astype(np.float32)


@pytest.fixture
def array(tmp_path):
    return ChunkedArray(tmp_path / "store" / "features.npy", ROWS.shape, "<f4", 32)


@pytest.fixture
def whole(array):
    array.allocate()
    for chunk in range(array.count):
        write(array, chunk)
    return array


def write(array, chunk):
    rows = array.get_rows(chunk)
    array.write(chunk, ROWS[rows.start : rows.stop])


def rewrite(array):
    """Writes what is missing; which chunks that were."""
    array.allocate()
    missing = array.find_missing()
    for chunk in missing:
        write(array, chunk)
    assert array.find_missing() == []
    np.testing.assert_array_equal(np.load(array.file), ROWS)
    return missing


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_chunks_are_there_once_they_are_written(array):
    assert array.find_missing() == [0, 1, 2]
    array.allocate()
    assert array.find_missing() == [0, 1, 2]
    write(array, 1)
    write(array, 2)
    array.allocate()
    assert (array.find_missing(), array.list_written(), array.count_done()) == ([0], [1, 2], 38)
    assert [list(array.get_rows(chunk))[::31] for chunk in (0, 2)] == [[0, 31], [64]]


def test_the_file_is_an_ordinary_one_of_numpy(whole):
    np.testing.assert_array_equal(np.load(whole.file), ROWS)
    np.testing.assert_array_equal(whole.open(), ROWS)
    assert whole.size == whole.file.stat().st_size


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_one_flipped_bit_costs_one_chunk(whole, chunk):
    flip(whole.file, -3 * 4 - ROWS[32 * chunk :].nbytes + 5)
    assert rewrite(whole) == [chunk]


def test_a_flipped_bit_of_a_checksum_costs_its_chunk(whole):
    flip(whole.file, -6)
    assert rewrite(whole) == [1]


@pytest.mark.parametrize("damage", ["header", "cut", "longer", "empty", "gone", "pipe", "device", "link"])
def test_another_file_is_written_anew(whole, damage):
    content = whole.file.read_bytes()
    whole.file.unlink()
    match damage:
        case "header":
            whole.file.write_bytes(content[:30] + b"x" + content[31:])
        case "cut":
            whole.file.write_bytes(content[:-1])
        case "longer":
            whole.file.write_bytes(content + b"x")
        case "empty":
            whole.file.touch()
        case "pipe":
            os.mkfifo(whole.file)
        case "device":
            whole.file.symlink_to("/dev/zero")
        case "link":
            whole.file.symlink_to("nowhere")
    assert whole.list_written() == []
    assert rewrite(whole) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_to_the_file_all_rows_come_back(whole, seed):
    mutate(whole.file, np.random.default_rng(seed))
    rewrite(whole)


def test_other_rows_of_the_same_shape_do_not_pass(whole):
    content = whole.file.read_bytes()
    header = len(content) - ROWS.nbytes - 3 * 4
    for other in (ROWS[:, ::-1], ROWS * 0, ROWS.astype(">f4"), np.roll(ROWS, 32, axis=0)):
        whole.file.write_bytes(content[:header] + np.ascontiguousarray(other).tobytes() + content[-12:])
        assert rewrite(whole) == [0, 1, 2]


def test_chunks_and_checksums_that_change_places_do_not_pass(tmp_path):
    array = ChunkedArray(tmp_path / "a.npy", (64, 4), "<f4", 32)
    array.allocate()
    array.write(0, ROWS[:32])
    array.write(1, ROWS[32:64])
    content = array.file.read_bytes()
    first, second, sums = content[-1032:-520], content[-520:-8], content[-4:] + content[-8:-4]
    array.file.write_bytes(content[:-1032] + second + first + sums)
    assert array.find_missing() == [0, 1]


def test_a_chunk_whose_checksum_is_0_is_there_all_the_same(array, monkeypatch):
    monkeypatch.setattr("pneumo_keras.storage.chunked_array.zlib.crc32", lambda *_: 0)
    array.allocate()
    write(array, 0)
    assert array.find_missing() == [1, 2]
