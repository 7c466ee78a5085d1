import numpy as np
import pytest

from pneumo_keras.data.films import (
    FilmArray,
    JoinedFilms,
    hash_along,
    hash_labels,
    hash_pixels,
    iterate_films,
)


@pytest.fixture
def parts():
    lot = np.random.default_rng(0)
    return [
        FilmArray(lot.integers(0, 256, (n, 5, 4), np.uint8), lot.integers(0, 2, n).astype(np.int64))
        for n in (7, 3, 5)
    ]


def test_joined_films_are_read_in_any_order(parts):
    joined, whole = JoinedFilms(parts), np.concatenate([part.images for part in parts])
    rows = np.array([14, 0, 7, 6, 7])
    assert (len(joined), joined.shape) == (15, (5, 4))
    assert np.array_equal(joined.read(rows), whole[rows])
    assert np.array_equal(joined.read(slice(2, 12, 3)), whole[2:12:3])
    assert joined.labels.tolist() == [label for part in parts for label in part.labels.tolist()]


def test_the_fingerprint_of_joined_films_is_that_of_their_parts_in_order(parts):
    prints = {JoinedFilms(order).fingerprint() for order in (parts, parts[::-1], parts[:2])}
    assert len(prints) == 3
    assert JoinedFilms(parts).fingerprint() in prints


def test_pixels_have_one_hash_however_they_come(parts):
    films = parts[0]
    assert films.fingerprint() == hash_pixels((7, 5, 4), iterate_films(films, 2))
    *_, (last, digest) = hash_along((7, 5, 4), iterate_films(films, 3))
    assert digest == films.fingerprint() and np.array_equal(last, films.images[6:])
    assert hash_pixels((7, 4, 5), [films.images.reshape(7, 4, 5)]) != films.fingerprint()


def test_films_judged_anew_have_another_hash_of_labels_alone(parts):
    films = parts[0]
    anew = FilmArray(films.images, 1 - films.labels)
    assert anew.fingerprint() == films.fingerprint()
    assert hash_labels(anew.labels) != hash_labels(films.labels)
