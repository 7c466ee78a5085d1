import io
import os

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data.kinds import has_image_signature, is_image_file
from pneumo_keras.data.pictures import FORMATS
from tests.data import dicom_files


def save(form):
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file, form)
    return file.getvalue()


@pytest.fixture
def dicom():
    return dicom_files.save(dicom_files.build_dataset(np.zeros((8, 8), np.uint8)))


@pytest.mark.parametrize("form", FORMATS)
def test_an_image_without_an_ending_is_known_by_its_beginning(tmp_path, form):
    (tmp_path / "IM-0001").write_bytes(save(form))
    assert is_image_file(tmp_path / "IM-0001")


def test_dicom_is_known_with_and_without_its_preamble(tmp_path, dicom):
    for content in (dicom, dicom[132:], b"\x08\0\x16\0UI\x1a\0" + b"1" * 26 + b"\x08\0\x18\0UI\0\0"):
        (tmp_path / "1.2.840.1").write_bytes(content)
        assert is_image_file(tmp_path / "1.2.840.1")


@pytest.mark.parametrize(
    "name", ["a.PNG", "a.jpeg", "a.b.Tif", "a.dcm", "IMG.IMA", "a.webp", "a.bmp", "broken.JPG"]
)
def test_what_ends_like_an_image_is_one_however_damaged(tmp_path, name):
    (tmp_path / name).write_text("no image")
    assert is_image_file(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"Ask Anna"),
        ("notes.txt", b"BM and II*, that is what she said"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 40),
        ("desktop.ini", b"[.ShellClassInfo]"),
        ("report.pdf", b"%PDF-1.7"),
        ("clip.wav", b"RIFF\0\0\0\0WAVE"),
        ("archive.zip", b"PK\x03\x04"),
        ("labels.csv", b"path,label\n"),
        ("data.npz", b"PK\x03\x04"),
        ("empty", b""),
        ("png", b""),
    ],
)
def test_other_kinds_are_known(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert not is_image_file(tmp_path / name)


def test_the_list_of_a_medium_s_files_is_no_image(tmp_path, dicom):
    (tmp_path / "DICOMDIR").write_bytes(dicom)
    assert has_image_signature(dicom) and not is_image_file(tmp_path / "DICOMDIR")


def test_what_cannot_be_opened_is_left_to_whoever_reads_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "lost").symlink_to("nowhere")
    assert all(is_image_file(tmp_path / name) for name in ("pipe", "lost", "none", "a\0b"))
