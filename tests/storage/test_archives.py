import struct
import tracemalloc
import warnings
import zipfile

import pytest
from pneumo_keras.storage.archives import open_zip

from pneumo_keras.storage import archives


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


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(tmp_path, packing):
    path = write_zip(tmp_path / "x.zip", [("a", "one")], packing)
    assert refuse(path) == "'a' is encrypted, or packed otherwise than by deflate"


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
    monkeypatch.setattr(archives, "FREE_BYTES", 1000)
    assert refuse(path) == "it would unpack to 1,048,576 bytes"


def test_a_list_of_members_that_is_too_long_is_refused_in_little_memory(tmp_path):
    path = tmp_path / "x.zip"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 2**31, 0, 0)
    with path.open("wb") as file:
        file.seek(2**32)
        file.write(end)
    tracemalloc.start()
    try:
        assert refuse(path) == "it lists more members than are ever read"
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [0, 1, 20, -30])
def test_a_part_of_an_archive_is_refused(tmp_path, cut):
    path = write_zip(tmp_path / "x.zip", [("a", "one" * 100)])
    path.write_bytes(path.read_bytes()[:cut])
    assert refuse(path) == "it is no zip archive, or a part of one"


def test_a_reason_is_one_line_of_bounded_length(tmp_path):
    path = write_zip(tmp_path / "x.zip", [("n\n" * 5000, "one")])
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    reason = refuse(path)
    assert len(reason) <= 300 and "\n" not in reason
