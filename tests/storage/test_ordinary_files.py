import os
from pathlib import Path

import pytest
from pneumo_keras.storage.ordinary_files import read_ordinary, read_text


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
