"""Tests of the data stage never touch the home folder; tiny files of MedMNIST's make."""

import numpy as np
import pytest

COUNTS = {"train": 12, "val": 6, "test": 8}


def to_arrays(size=28):
    """Six arrays as MedMNIST writes them: every third image normal."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in COUNTS.items():
        arrays[f"{split}_images"] = random.integers(0, 256, (count, size, size), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 3 > 0).astype(np.uint8)[:, None]
    return arrays


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def write_npz(tmp_path):
    """Writes a file that differs from a good one by the arrays given; None leaves one out."""

    def write(name="images.npz", *, size=28, **others):
        arrays = to_arrays(size) | others
        path = tmp_path / name
        np.savez_compressed(path, **{key: a for key, a in arrays.items() if a is not None})
        return path

    return write
