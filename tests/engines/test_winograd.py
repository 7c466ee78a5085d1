import keras
import numpy as np
import pytest

from pneumo_keras.engines.graph import Convolution, read_graph
from pneumo_keras.engines.winograd import TILE, choose_axis, to_filter
from tests.engines.toys import build_chain


def build_convolution(channels, kernel, *, strides=1, size=23):
    layers = [
        keras.layers.Conv2D(channels, 1),
        keras.layers.Conv2D(5, kernel, strides=strides, padding="same"),
    ]
    convolutions = [step for step in read_graph(build_chain(*layers, size=size)).steps]
    assert isinstance(convolutions[1], Convolution)
    return convolutions[1]


@pytest.mark.parametrize(("feature_layers", "tile"), TILE.items())
def test_the_points_of_a_tile_give_the_convolution(feature_layers, tile):
    rng = np.random.default_rng(0)
    inputs, kernel = rng.normal(size=tile + feature_layers - 1), rng.normal(size=feature_layers)
    to_output, to_kernel, to_input = to_filter(tile, feature_layers)
    outputs = to_output @ ((to_kernel @ kernel) * (to_input @ inputs))
    np.testing.assert_allclose(outputs, np.correlate(inputs, kernel, "valid"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "axis"), [(3, 1), (5, 1), ((1, 7), 1), ((7, 1), 0), ((1, 3), 1)])
def test_large_convolutions_are_filtered_along_their_longest_side(kernel, axis):
    assert choose_axis(build_convolution(48, kernel)) == axis


@pytest.mark.parametrize(
    ("channels", "kernel", "strides", "size"),
    [(47, 3, 1, 23), (48, 3, 2, 40), (48, 3, 1, 15), (48, 1, 1, 23), (48, 4, 1, 23), (48, 3, 1, None)],
)
def test_small_strided_and_odd_convolutions_are_not(channels, kernel, strides, size):
    assert choose_axis(build_convolution(channels, kernel, strides=strides, size=size)) is None
