import numpy as np
import pytest

from pneumo_keras.errors import ExportError
from pneumo_keras.exports.verification import draw_films, verify_scoring
from tests.exports.classifiers import build_classifier, score


@pytest.fixture(scope="module")
def classifier():
    return build_classifier()


def verify(classifier, change=lambda films: 0.0):
    def scoring(films):
        return (score(classifier, films) + change(films)).astype(np.float32)

    return verify_scoring(scoring, "jax", classifier.join(), 28)


def test_films_are_those_of_the_training_size_larger_ones_and_smaller_ones():
    shapes = [films.shape for films in draw_films(28)]
    assert shapes == [(48, 28, 28, 1), (8, 65, 33, 1), (8, 21, 25, 1)]
    assert min(min(films.shape[1:3]) for films in draw_films(16)) >= 1


def test_what_was_compared_is_told(classifier):
    import jax

    found = verify(classifier, lambda films: 5e-5 * (len(films) == 48))
    assert found.runtime == f"jax {jax.__version__}"
    assert (found.films, found.tolerance) == (64, 1e-4)
    assert found.sizes == [(28, 28), (65, 33), (21, 25)]
    assert found.largest_difference == pytest.approx(5e-5, abs=1e-6)
    assert 0 < found.lowest < found.highest < 1


@pytest.mark.parametrize("off", [2e-4, -2e-4, np.nan])
def test_one_film_of_one_size_that_is_off_fails_it(classifier, off):
    def change(films):
        changes = np.zeros((len(films), 1))
        changes[-1] = off if films.shape[1:3] == (21, 25) else 0
        return changes

    with pytest.raises(
        ExportError, match=r"a film of 21 x 25 pixels scores (2.0e-04|nan) away from Keras on jax"
    ):
        verify(classifier, change)
