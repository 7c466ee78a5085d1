import io
import os
from pathlib import Path

import pytest

from pneumo_keras.data.listing import list_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "films/b.png",
        "films/a.png",
        "films/.hidden.png",
        "films/.git/x.png",
        "films/z/c.dcm",
        "one.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def list_names(*names, stdin=""):
    return list(list_files(names, io.StringIO(stdin)))


@pytest.mark.usefixtures("folder")
def test_names_stand_for_files_folders_patterns_and_stdin():
    inside = ["films/a.png", "films/b.png", "films/z/c.dcm"]
    assert list_names("one.png", "films") == ["one.png", *inside]
    assert list_names("films/*.png") == ["films/a.png", "films/b.png"]
    assert list_names("fil*") == inside
    assert sorted(list_names("films/**")) == inside
    assert list_names("-", "one.png", stdin="films/z\n\nfilms/a.png\r\n") == [
        "films/z/c.dcm",
        "films/a.png",
        "one.png",
    ]


@pytest.mark.usefixtures("folder")
def test_what_is_not_there_stands_for_itself():
    assert list_names("none.png", "none*.png", stdin="") == ["none.png", "none*.png"]


@pytest.mark.usefixtures("folder")
def test_a_name_that_looks_like_a_pattern_is_the_file_of_that_name(tmp_path):
    (tmp_path / "a[1].png").touch()
    (tmp_path / "a1.png").touch()
    assert list_names("a[1].png") == ["a[1].png"]


@pytest.mark.usefixtures("folder")
def test_links_to_folders_are_followed_and_none_is_walked_twice(tmp_path):
    Path("films/z/up").symlink_to("..")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.png").touch()
    Path("films/link").symlink_to(tmp_path / "elsewhere")
    assert list_names("films") == ["films/a.png", "films/b.png", "films/link/d.png", "films/z/c.dcm"]


@pytest.mark.usefixtures("folder")
def test_a_folder_that_cannot_be_read_stands_for_itself(monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("z"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list_names("films") == ["films/a.png", "films/b.png", "films/z"]


def test_a_name_that_no_system_takes_stands_for_itself():
    assert list_names("x" * 5000, "a\0b") == ["x" * 5000, "a\0b"]
