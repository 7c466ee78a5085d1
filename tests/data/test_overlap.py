import itertools

import numpy as np
import pytest

from pneumo_keras.data.overlap import (
    SharedPatients,
    count_shared,
    find_new,
    find_shared,
    hash_images,
    load_hashes,
)
from pneumo_keras.data.sources import ImageNames
from tests.damage import mutate
from tests.images import ImageArray, load_phantom_splits


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


TRAIN = ImageNames(patients=("a", "b", "", "b"))
VAL = ImageNames(patients=("b", "c", "", "b", "d"))


def test_images_of_patients_who_stand_elsewhere_are_found_and_counted():
    assert find_shared(VAL, [TRAIN]).tolist() == [True, False, False, True, False]
    assert count_shared(VAL, [TRAIN]) == SharedPatients(patients=1, images=2, known=4)
    test = ImageNames(patients=("c", "a", "e"))
    assert find_shared(test, [TRAIN, VAL]).tolist() == [True, True, False]


def test_an_image_of_nobody_is_neither_shared_nor_of_a_new_patient():
    assert find_new(VAL, [TRAIN]).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (VAL, []),
        (VAL, [ImageNames()]),
        (ImageNames(), [TRAIN]),
        (VAL, [ImageNames(patients=("test-b",), numberings=frozenset({"test"}))]),
        (
            ImageNames(patients=("train-b",), numberings=frozenset({"train", "test"})),
            [ImageNames(patients=("test-b",), numberings=frozenset({"train", "test"}))],
        ),
    ],
)
def test_where_nothing_is_known_none_is_said(names, others):
    assert find_shared(names, others) is None
    assert find_new(names, others) is None
    assert count_shared(names, others) is None


def test_names_that_are_equal_are_one_patient_however_many_numberings_there_are():
    """As where the published splits were mixed: who is new then is not known."""
    names = ImageNames(patients=("train-b", "test-b"), numberings=frozenset({"train", "test"}))
    others = [ImageNames(patients=("train-b",), numberings=frozenset({"train"}))]
    shared = find_shared(names, others)
    assert shared is not None and shared.tolist() == [True, False]
    assert find_new(names, others) is None
