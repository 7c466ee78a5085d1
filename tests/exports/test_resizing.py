import keras
import numpy as np
import pytest

from pneumo_keras.exports.resizing import KERNELS, to_weights
from tests.exports.classifiers import draw_films


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("source", "target"), [(28, 199), (200, 28), (28, 27), (1, 5), (5, 1), (16, 32)])
def test_two_matrix_products_resize_as_keras_does(kernel, source, target):
    films = draw_films(source, source)
    resized = keras.ops.image.resize(films, (target, target), interpolation=kernel, antialias=True)
    weights = to_weights(kernel, source, target)
    products = weights @ films[..., 0] @ weights.T
    np.testing.assert_allclose(products, keras.ops.convert_to_numpy(resized)[..., 0], atol=2e-3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_film_of_the_right_size_stays_as_it_is(kernel):
    np.testing.assert_array_equal(to_weights(kernel, 28, 28), np.eye(28))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("source", "target"), [(28, 199), (513, 28)])
def test_an_even_film_stays_even_up_to_its_borders(kernel, source, target):
    np.testing.assert_allclose(to_weights(kernel, source, target).sum(axis=1), 1)


def test_kernels_are_whole_where_their_pieces_meet():
    """As the sum over all pieces asks for."""
    for pieces in KERNELS.values():
        assert all(np.polyval(polynomial, end) == 0 for _, end, polynomial in pieces)
        assert all(np.polyval(polynomial, start) == 0 for start, _, polynomial in pieces[1:])
        assert np.polyval(pieces[0][2], 0) == 1
