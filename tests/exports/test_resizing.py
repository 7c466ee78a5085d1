import keras
import numpy as np
import pytest

from pneumo_keras.exports.resizing import to_weights
from tests.exports.classifiers import draw_images


@pytest.mark.parametrize(("source", "target"), [(28, 199), (200, 28), (28, 27), (1, 5), (5, 1), (16, 32)])
def test_two_matrix_products_resize_as_keras_does(source, target):
    images = draw_images(source, source)
    resized = keras.ops.image.resize(images, (target, target), interpolation="bilinear", antialias=True)
    weights = to_weights(source, target)
    products = weights @ images[..., 0] @ weights.T
    np.testing.assert_allclose(products, keras.ops.convert_to_numpy(resized)[..., 0], atol=2e-3)


def test_an_image_of_the_right_size_stays_as_it_is():
    np.testing.assert_array_equal(to_weights(28, 28), np.eye(28))


@pytest.mark.parametrize(("source", "target"), [(28, 199), (513, 28)])
def test_an_even_image_stays_even_up_to_its_borders(source, target):
    np.testing.assert_allclose(to_weights(source, target).sum(axis=1), 1)
