import os
from dataclasses import replace

import numpy as np
import pytest
from pneumo_keras.storage.chunked import ChunkedArray, remove

ROWS = np.random.default_rng(0).normal(3, 2, (70, 4)).astype(np.float32)


@pytest.fixture
def array(tmp_path):
    return ChunkedArray(tmp_path / "store" / "features.npy", ROWS.shape, "<f4", 32, "these")


@pytest.fixture
def whole(array):
    array.make_room()
    for chunk in range(array.count):
        write(array, chunk)
    return array


def write(array, chunk):
    rows = array.get_rows(chunk)
    array.write(chunk, ROWS[rows.start : rows.stop])


def mend(array):
    array.make_room()
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
    array.make_room()
    assert array.find_missing() == [0, 1, 2]
    write(array, 1)
    assert array.find_missing() == [0, 2]
    array.make_room()
    assert (array.find_missing(), array.list_written()) == ([0, 2], [1])
    assert [list(array.get_rows(chunk))[::31] for chunk in (0, 2)] == [[0, 31], [64]]


def test_the_file_is_an_ordinary_one_of_numpy(whole):
    np.testing.assert_array_equal(np.load(whole.file), ROWS)
    np.testing.assert_array_equal(whole.open(), ROWS)
    assert whole.size == ROWS.nbytes


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_one_flipped_bit_costs_one_chunk(whole, chunk):
    flip(whole.file, whole.file.stat().st_size - ROWS[32 * chunk :].nbytes + 5)
    assert mend(whole) == [chunk]


def test_a_flipped_bit_of_a_checksum_costs_its_chunk(whole):
    flip(whole.file.with_suffix(".crc32"), 5)
    assert mend(whole) == [1]


def test_a_damaged_header_is_mended_and_costs_nothing(whole):
    flip(whole.file, 30)
    assert whole.find_missing() == [0, 1, 2]
    assert mend(whole) == []


@pytest.mark.parametrize(
    ("kept", "missing"), [(-4, [2]), (-ROWS[40:].nbytes, [1, 2]), (20, [0, 1, 2]), (0, [0, 1, 2])]
)
def test_what_was_cut_off_is_written_anew(whole, kept, missing):
    whole.file.write_bytes(whole.file.read_bytes()[:kept])
    assert mend(whole) == missing


def test_what_is_too_long_is_cut(whole):
    with whole.file.open("ab") as file:
        file.write(b"more")
    assert mend(whole) == []


@pytest.mark.parametrize("name", ["features.npy", "features.crc32"])
@pytest.mark.parametrize("kind", ["gone", "folder", "pipe", "device", "broken link", "zeros"])
def test_what_lies_under_its_names_is_replaced(whole, name, kind):
    path = whole.file.with_name(name)
    size = path.stat().st_size
    path.unlink()
    match kind:
        case "folder":
            (path / "inside").mkdir(parents=True)
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "broken link":
            path.symlink_to("nowhere")
        case "zeros":
            path.write_bytes(bytes(size))
    assert mend(whole) == [0, 1, 2]


def test_other_rows_of_the_same_shape_do_not_pass(whole):
    content = whole.file.read_bytes()
    header = len(content) - ROWS.nbytes
    for other in (ROWS[:, ::-1], ROWS * 0, ROWS.astype(">f4"), np.roll(ROWS, 32, axis=0)):
        whole.file.write_bytes(content[:header] + np.ascontiguousarray(other).tobytes())
        assert mend(whole) == [0, 1, 2]


def test_an_array_of_another_address_does_not_pass(whole):
    assert replace(whole, address="others").find_missing() == [0, 1, 2]


def test_chunks_and_checksums_that_change_places_do_not_pass(tmp_path):
    array = ChunkedArray(tmp_path / "a.npy", (64, 4), "<f4", 32, "these")
    array.make_room()
    array.write(0, ROWS[:32])
    array.write(1, ROWS[32:64])
    content, sums = array.file.read_bytes(), array.file.with_suffix(".crc32")
    array.file.write_bytes(content[:-1024] + content[-512:] + content[-1024:-512])
    sums.write_bytes(sums.read_bytes()[4:] + sums.read_bytes()[:4])
    assert array.find_missing() == [0, 1]


def test_a_chunk_whose_checksum_is_0_is_there_all_the_same(array, monkeypatch):
    monkeypatch.setattr("pneumo_keras.storage.chunked.zlib.crc32", lambda *_: 0)
    array.make_room()
    write(array, 0)
    assert array.find_missing() == [1, 2]


def test_anything_can_be_removed(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    assert all(remove(tmp_path / name) for name in ("folder", "file", "link", "nothing"))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
