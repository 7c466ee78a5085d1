import itertools

import numpy as np
import pytest

from pneumo_keras.data.hashes import hash_images, load_hashes
from pneumo_keras.data.images import ImageArray
from tests.damage import mutate
from tests.images import load_phantom_splits


@pytest.fixture
def images():
    return load_phantom_splits((300, 2, 2))["train"]


def test_a_hash_stands_for_the_pixels_of_an_image_alone(images):
    hashes = hash_images(images)
    assert len(np.unique(hashes)) == len(images)
    turned = hash_images(ImageArray(images.images[::-1], 1 - images.labels))
    assert np.array_equal(turned, hashes[::-1])
    images.images[5, 0, 0] ^= 1
    assert np.flatnonzero(hash_images(images) != hashes).tolist() == [5]


def test_hashes_are_kept_and_made_anew_where_they_are_damaged(images, tmp_path, monkeypatch):
    expected = hash_images(images)
    for _ in range(2):
        assert np.array_equal(load_hashes(images, tmp_path), expected)
    for damage, file in itertools.product(range(20), sorted((tmp_path / "hashes").iterdir())):
        mutate(file, np.random.default_rng(damage))
        assert np.array_equal(load_hashes(images, tmp_path), expected)
    monkeypatch.setattr(ImageArray, "read", lambda *_: pytest.fail("images were read"))
    assert np.array_equal(load_hashes(images, tmp_path), expected)


def test_no_room_for_hashes_is_no_matter(images, tmp_path, monkeypatch):
    def fill_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill_disk)
    for _ in range(2):
        assert np.array_equal(load_hashes(images, tmp_path), hash_images(images))


def test_a_cache_that_cannot_be_written_is_passed_over(images, tmp_path):
    (tmp_path / "file").touch()
    assert np.array_equal(load_hashes(images, tmp_path / "file"), hash_images(images))
