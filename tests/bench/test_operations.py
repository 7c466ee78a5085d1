import itertools

import keras
import pytest

from pneumo_keras.bench import operations
from pneumo_keras.bench.operations import count_operations, measure_product_rate
from tests.toy import build_toy_backbone


def test_operations_of_the_toy_counted_by_hand():
    first = 2 * (3 * 3 * 3) * 6 * (8 * 8)
    second = 2 * (3 * 3 * 6) * 6 * (4 * 4)
    assert count_operations(build_toy_backbone()) == first + second
    assert count_operations(build_toy_backbone(feature_layers=("mixed4",))) == first


def test_operations_of_a_grouped_valid_rectangular_convolution_counted_by_hand():
    images = keras.Input((9, 7, 4))
    model = keras.Model(images, keras.layers.Conv2D(6, (1, 3), groups=2)(images))
    assert count_operations(model) == 2 * (1 * 3 * 2) * 6 * (9 * 5)


@pytest.mark.slow
def test_inception_has_the_operations_of_the_literature():
    network = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    assert count_operations(network) == pytest.approx(2 * 5.7e9, rel=0.01)


def test_the_product_rate_is_the_best_of_several(monkeypatch):
    ticks = itertools.accumulate(itertools.cycle([0.0, 2.0, 0.0, 0.5, 0.0, 1.0]))
    monkeypatch.setattr(operations, "describe_device", lambda: "cpu")
    assert measure_product_rate(edge=8, repeats=3, clock=lambda: next(ticks)) == 2 * 8**3 / 0.5


def test_the_product_rate_of_this_machine_is_plausible():
    assert 1e6 < measure_product_rate(edge=64, repeats=2) < 1e15
