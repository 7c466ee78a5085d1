"""Folders of small images, decoded in this process: to start others takes a second."""

import pytest

from pneumo_keras.data import folder
from pneumo_keras.data.decoding import LIMITS, decode_file
from pneumo_keras.data.folder import decoded
from pneumo_keras.data.sources import DataOptions
from tests.images import load_phantom_splits, write_splits

COUNTS = (30, 12, 14)


@pytest.fixture
def decoded_files(monkeypatch):
    """The files that were decoded, in their order."""
    files = []

    def decode_images(paths, *, preparation):
        for path in paths:
            files.append(path)
            yield decode_file(path, preparation, LIMITS)

    monkeypatch.setattr(decoded, "decode_images", decode_images)
    return files


@pytest.fixture
def splits():
    return load_phantom_splits(COUNTS)


@pytest.fixture
def images(tmp_path, splits, decoded_files):
    """A folder of images in three splits."""
    path = tmp_path / "clinic"
    write_splits(path, splits)
    return path


@pytest.fixture
def open_data(tmp_path, decoded_files):
    def open_data(path, **options):
        return folder.open_images(
            DataOptions(path, options.pop("size", 28), (2, 2, 2), tmp_path / "cache", **options)
        )

    return open_data
