import codecs
import io
import os
from pathlib import Path

import pytest

from pneumo_keras.data.listing import IgnoredFiles, list_files, read_names
from pneumo_keras.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "images/b.png",
        "images/a.png",
        "images/.hidden.png",
        "images/.git/x.png",
        "images/z/c.dcm",
        "one.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def list_names(*names, stdin=b"", ignored=None):
    return list(list_files(names, read_names(io.TextIOWrapper(io.BytesIO(stdin))), ignored or IgnoredFiles()))


@pytest.mark.usefixtures("folder")
def test_names_stand_for_files_folders_patterns_and_stdin():
    inside = ["images/a.png", "images/b.png", "images/z/c.dcm"]
    assert list_names("one.png", "images") == ["one.png", *inside]
    assert list_names("images/*.png") == ["images/a.png", "images/b.png"]
    assert list_names("im*") == inside
    assert sorted(list_names("images/**")) == inside
    assert list_names("-", "one.png", stdin=b"images/z\n\nimages/a.png\r\n") == [
        "images/z/c.dcm",
        "images/a.png",
        "one.png",
    ]


@pytest.mark.usefixtures("folder")
def test_what_is_not_there_stands_for_itself():
    assert list_names("none.png", "none*.png") == ["none.png", "none*.png"]


@pytest.mark.usefixtures("folder")
def test_a_name_that_looks_like_a_pattern_is_the_file_of_that_name(tmp_path):
    (tmp_path / "a[1].png").touch()
    (tmp_path / "a1.png").touch()
    assert list_names("a[1].png") == ["a[1].png"]


@pytest.mark.usefixtures("folder")
def test_links_to_folders_are_followed_and_none_is_walked_twice(tmp_path):
    Path("images/z/up").symlink_to("..")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.png").touch()
    Path("images/link").symlink_to(tmp_path / "elsewhere")
    assert list_names("images") == ["images/a.png", "images/b.png", "images/link/d.png", "images/z/c.dcm"]


@pytest.mark.usefixtures("folder")
def test_a_folder_that_cannot_be_read_stands_for_itself(monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("z"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list_names("images") == ["images/a.png", "images/b.png", "images/z"]


def test_a_name_that_no_system_takes_stands_for_itself():
    assert list_names("x" * 5000, "a\0b") == ["x" * 5000, "a\0b"]


@pytest.mark.parametrize(
    "stdin",
    [
        "Füße 1.png\nb.png\n".encode("utf-8-sig"),
        "Füße 1.png\r\nb.png\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "\nFüße 1.png\nb.png".encode("utf-16-be"),
        "\n\r\nFüße 1.png\nb.png".encode(),
    ],
)
def test_a_list_may_come_from_any_editor(stdin):
    assert list_names("-", stdin=stdin) == ["Füße 1.png", "b.png"]


def test_names_in_a_list_need_not_be_text():
    assert list_names("-", stdin=b"\xff.png\n \n") == ["\udcff.png", " "]


@pytest.mark.parametrize(
    ("stdin", "received"),
    [
        (b"a.png\0b.png\0", "null characters, as find -print0, UTF-32 and UTF-16 without a mark write them"),
        ("a.png\n".encode("utf-16-le"), "null characters, as find -print0, UTF-32 and UTF-16 without a mark"),
        ("a.png\n".encode("utf-32"), "null characters, as find -print0, UTF-32 and UTF-16 without a mark"),
        (codecs.BOM_UTF16_LE + b"a", "damaged UTF-16 (truncated data)"),
        (b"x" * 2**21, "a line above 1,048,576 bytes"),
    ],
)
def test_what_is_no_list_is_refused(stdin, received):
    with pytest.raises(DataError) as refusal:
        list_names("-", stdin=stdin)
    rule = "PATH - needs a list on stdin, one name a line. Received: "
    assert str(refusal.value).startswith(rule + received)


def test_without_stdin_there_is_no_list():
    with pytest.raises(DataError, match="Received: stdin is closed"):
        list(list_files(["-"], read_names(None), IgnoredFiles()))
    assert list(list_files(["a.png"], read_names(None), IgnoredFiles())) == ["a.png"]


@pytest.mark.usefixtures("folder")
def test_files_of_other_kinds_are_ignored_where_they_are_found_and_kept_where_they_are_named():
    for name in ("images/notes.txt", "images/z/Thumbs.db", "images/DICOMDIR", "notes.txt"):
        Path(name).write_text("notes")
    inside = ["images/a.png", "images/b.png", "images/z/c.dcm"]
    ignored = IgnoredFiles()
    assert list_names("images", ignored=ignored) == inside
    assert ignored.describe() == (
        "3 files of other kinds ignored: images/DICOMDIR, images/notes.txt, images/z/Thumbs.db"
    )
    ignored = IgnoredFiles()
    assert list_names("images/*", "not*", "-", stdin=b"images\nnotes.txt\n", ignored=ignored) == [
        *inside,
        *inside,
        "notes.txt",
    ]
    assert ignored.describe() == (
        "7 files of other kinds ignored: images/DICOMDIR, images/notes.txt, images/z/Thumbs.db and 4 more"
    )
    ignored = IgnoredFiles()
    assert list_names("images/z", ignored=ignored) == ["images/z/c.dcm"]
    assert ignored.describe() == "1 file of other kinds ignored: images/z/Thumbs.db"
    assert list_names("images/notes.txt", "images/DICOMDIR") == ["images/notes.txt", "images/DICOMDIR"]
