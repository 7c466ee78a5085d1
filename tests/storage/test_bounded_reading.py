import os
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pneumo_keras.storage import bounded_reading
from pneumo_keras.storage.bounded_reading import load_npz, open_zip, read_ordinary, read_text


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing", "null", "long", "loop"])
def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "x"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "folder":
            path.mkdir()
        case "null":
            path = tmp_path / "a\0b"
        case "long":
            path = tmp_path / ("x" * 300)
        case "loop":
            path.symlink_to(path)
    with pytest.raises(OSError, match=r"ordinary|directory|No such|null|too long|symbolic") as caught:
        read_ordinary(path, most=10)
    assert caught.value.strerror


def test_no_more_is_read_than_allowed(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="it has 1,099,511,627,776 bytes, and at most 100 are read"):
        read_ordinary(path, most=100)


def test_a_text_is_utf_8_with_its_line_ends(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("a\r\nä".encode())
    assert read_text(path) == "a\r\nä"
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(path)


def write_zip(path, members, packing=zipfile.ZIP_STORED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", packing) as archive:
        warnings.filterwarnings("ignore", message="Duplicate name")
        for name, content in members:
            archive.writestr(name, content)
    return path


def read_all(path):
    with open_zip(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def refuse(path):
    with pytest.raises(ValueError, match=r".") as caught:
        read_all(path)
    return str(caught.value)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_plain_archive_is_read(tmp_path, packing):
    with open_zip(write_zip(tmp_path / "x.zip", [("a", "one"), ("b", "two")], packing)) as archive:
        assert archive.read("b") == b"two"


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    assert refuse(write_zip(tmp_path / "x.zip", [("a", "1"), ("a", "2")])) == "it holds 'a' more than once"


def test_an_encrypted_member_is_refused(tmp_path):
    path = write_zip(tmp_path / "x.zip", [("a", "one")])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refuse(path)


def test_an_archive_that_would_unpack_to_terabytes_is_refused_unread(tmp_path):
    path = write_zip(tmp_path / "x.zip", [("a", "one")])
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 2**32 - 2)
    path.write_bytes(content)
    assert refuse(path) == "it would unpack to 4,294,967,294 bytes"


def test_a_bomb_is_refused_and_what_only_packs_well_is_not(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "x.zip", [("a", bytes(2**20))], zipfile.ZIP_DEFLATED)
    with open_zip(path) as archive:
        assert len(archive.read("a")) == 2**20
    monkeypatch.setattr(bounded_reading, "FREE_BYTES", 1000)
    assert refuse(path) == "it would unpack to 1,048,576 bytes"


@pytest.mark.parametrize("cut", [0, 1, 20, -30])
def test_a_part_of_an_archive_is_refused(tmp_path, cut):
    path = write_zip(tmp_path / "x.zip", [("a", "one" * 100)])
    path.write_bytes(path.read_bytes()[:cut])
    assert refuse(path) == "File is not a zip file"


def test_a_reason_is_one_line_of_bounded_length(tmp_path):
    path = write_zip(tmp_path / "x.zip", [("n\n" * 5000, "one")])
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    reason = refuse(path)
    assert len(reason) <= 200 and "\n" not in reason


def build_header(descr="'|u1'", order="False", shape="(3,)"):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"shape": "(1000000000000,)"}, "declares 1,000,000,000,000 bytes and holds 3"),
        ({"shape": f"({10**20}, {10**20})"}, "declares more than 10^30 bytes and holds 3"),
        ({"shape": f"({'9' * 5000},)"}, "is not a plain array"),
        ({"shape": "(-3,)"}, "must be a plain array of numbers"),
        ({"shape": "(" * 900}, "is not a plain array"),
        ({"descr": "'|O'"}, "must be a plain array of numbers"),
        ({"descr": "[('a', '|O')]"}, "must be a plain array of numbers"),
        ({"descr": "'|V3'", "shape": "(1,)"}, "must be a plain array of numbers"),
        ({"descr": "'|S3'", "shape": "(1,)"}, "must be a plain array of numbers"),
        ({"descr": "'<f8'"}, "declares 24 bytes and holds 3"),
        ({"descr": "__import__('os').system('false')"}, "is not a plain array"),
        ({"order": "2"}, "is not a plain array"),
    ],
)
def test_an_array_that_is_not_what_it_declares_is_refused(tmp_path, header, reason):
    content = build_header(**header) + b"abc"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match=r"^x\.npy ") as caught:
        load_npz(tmp_path / "x.npz", ["x"])
    assert reason in str(caught.value)


def test_a_missing_array_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", a=1.0)
    with pytest.raises(ValueError, match=r"b\.npy"):
        load_npz(tmp_path / "x.npz", ["a", "b"])


def test_no_pickle_is_ever_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match="must be a plain array of numbers"):
        load_npz(tmp_path / "x.npz", ["x"])
