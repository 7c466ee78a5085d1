import numpy as np
import pytest

from pneumo_keras.data.films import FilmArray
from pneumo_keras.errors import DataError
from pneumo_keras.training.folds import draw_folds

RANDOM = np.random.default_rng(0)
LABELS = np.repeat([0, 1], [60, 140])
IMAGES = RANDOM.integers(0, 256, (200, 4, 4), dtype=np.uint8)


def test_every_film_is_held_out_once_with_its_class_in_proportion():
    folds = draw_folds(FilmArray(IMAGES, LABELS), folds=5, seed=1)
    assert np.bincount(folds).tolist() == [40] * 5
    assert np.bincount(folds[LABELS == 0]).tolist() == [12] * 5


def test_films_with_the_same_pixels_stay_in_one_fold():
    images = IMAGES.copy()
    images[100:150] = images[50:100]
    images[150:] = images[50]
    folds = draw_folds(FilmArray(images, LABELS), folds=5, seed=1)
    np.testing.assert_array_equal(folds[100:150], folds[50:100])
    assert set(folds[150:]) == {folds[50]}


def test_the_same_seed_draws_the_same_folds():
    first, second, other = (draw_folds(FilmArray(IMAGES, LABELS), folds=5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_too_few_films_get_one_line():
    with pytest.raises(DataError) as caught:
        draw_folds(FilmArray(IMAGES[58:], LABELS[58:]), folds=5, seed=1)
    assert str(caught.value) == "5 folds need as many films of each class. Received: 2 of one."
