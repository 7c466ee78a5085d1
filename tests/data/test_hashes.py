import itertools

import numpy as np
import pytest

from pneumo_keras.chunked import ChunkedArray
from pneumo_keras.data.films import FilmArray
from pneumo_keras.data.hashes import hash_films, load_hashes
from tests.damage import mutate
from tests.films import load_phantom_splits


@pytest.fixture
def films():
    return load_phantom_splits((300, 2, 2))["train"]


def test_a_hash_stands_for_the_pixels_of_a_film_alone(films):
    hashes = hash_films(films)
    assert len(np.unique(hashes)) == len(films)
    turned = hash_films(FilmArray(films.images[::-1], 1 - films.labels))
    assert np.array_equal(turned, hashes[::-1])
    films.images[5, 0, 0] ^= 1
    assert np.flatnonzero(hash_films(films) != hashes).tolist() == [5]


def test_hashes_are_kept_and_made_anew_where_they_are_damaged(films, tmp_path, monkeypatch):
    expected = hash_films(films)
    for _ in range(2):
        assert np.array_equal(load_hashes(films, tmp_path), expected)
    for damage, file in itertools.product(range(20), sorted((tmp_path / "hashes").iterdir())):
        mutate(file, np.random.default_rng(damage))
        assert np.array_equal(load_hashes(films, tmp_path), expected)
    monkeypatch.setattr(FilmArray, "read", lambda *_: pytest.fail("films were read"))
    assert np.array_equal(load_hashes(films, tmp_path), expected)


def test_no_room_for_hashes_is_no_matter(films, tmp_path, monkeypatch):
    def fill_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ChunkedArray, "write", fill_disk)
    for _ in range(2):
        assert np.array_equal(load_hashes(films, tmp_path), hash_films(films))


def test_a_cache_that_cannot_be_written_is_passed_over(films, tmp_path):
    (tmp_path / "file").touch()
    assert np.array_equal(load_hashes(films, tmp_path / "file"), hash_films(films))
