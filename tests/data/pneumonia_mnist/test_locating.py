import hashlib
import os

import pytest

from pneumo_keras.data.download import Release
from pneumo_keras.data.pneumonia_mnist import locate_npz, to_medmnist_folder
from pneumo_keras.errors import DataError, DownloadError

NOWHERE = "http://127.0.0.1:9/images.npz"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "medmnist"
    folder.mkdir()
    return folder


def to_release(content, **facts):
    md5 = hashlib.md5(content).hexdigest()
    return Release(
        **{"title": "Images", "name": "images.npz", "url": NOWHERE, "md5": md5, "most": 99} | facts
    )


def test_the_file_of_the_user_comes_first(tmp_path, folder):
    own = tmp_path / "own.npz"
    own.write_bytes(b"own")
    (folder / "images.npz").write_bytes(b"official")
    npz = locate_npz(to_release(b"official"), path=own, folder=folder)
    assert npz.path == own
    assert npz.sha256 == hashlib.sha256(b"own").hexdigest()
    assert npz.md5 == hashlib.md5(b"own").hexdigest()


def test_a_tilde_means_the_home_folder(home, folder):
    (home / "own.npz").write_bytes(b"own")
    release = to_release(b"official")
    path = type(home)("~/own.npz")
    assert locate_npz(release, path=path, folder=folder).path == home / "own.npz"


def test_a_missing_file_of_the_user_is_named(tmp_path, folder):
    with pytest.raises(DataError) as error:
        locate_npz(to_release(b"official"), path=tmp_path / "none.npz", folder=folder)
    assert str(error.value) == (
        f"data.path must name an npz file that can be read. Received: {tmp_path}/none.npz (No such "
        "file or directory). Correct it, or leave data.path unset to use the official file."
    )


def test_a_folder_is_no_file(tmp_path, folder):
    with pytest.raises(DataError, match=r'\(Is a directory\)\. Set data\.source="folder" for a folder'):
        locate_npz(to_release(b"official"), path=tmp_path, folder=folder)


def test_a_verified_copy_of_medmnist_is_used_as_it_is(folder, caplog):
    (folder / "images.npz").write_bytes(b"official")
    npz = locate_npz(to_release(b"official"), path=None, folder=folder)
    assert npz.path == folder / "images.npz"
    assert list(folder.iterdir()) == [npz.path]
    assert caplog.messages == []


def test_a_wrong_copy_of_medmnist_is_ignored_with_a_warning(folder, caplog):
    (folder / "images.npz").write_bytes(b"wrong")
    with pytest.raises(DownloadError):
        locate_npz(to_release(b"official"), path=None, folder=folder)
    wrong, right = hashlib.md5(b"wrong").hexdigest(), hashlib.md5(b"official").hexdigest()
    line = (
        f"Ignoring {folder}/images.npz: its MD5 is {wrong}, that of Images is {right}. A "
        "download will replace it; to use it as it is, copy it elsewhere and name the copy with data.path."
    )
    assert caplog.messages == [line]


def test_without_a_network_the_ways_out_are_named(folder):
    release = to_release(b"official", bytes=8)
    with pytest.raises(DownloadError) as error:
        locate_npz(release, path=None, folder=folder)
    assert str(error.value) == (
        f"Cannot fetch Images (images.npz, 8 bytes, MD5 {release.md5}) from {NOWHERE} into {folder}: "
        f"Connection refused. Put a copy into {folder} or name one with data.path; "
        "--config demo needs none of it."
    )


def test_medmnist_keeps_its_files_in_the_home_folder(home):
    assert to_medmnist_folder() == home / ".medmnist"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_waited_for(tmp_path, folder, kind):
    path = tmp_path / "images.npz"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"\(it is not an ordinary file\)"):
        locate_npz(to_release(b"official"), path=path, folder=folder)
