import keras
import numpy as np
import pytest

from pneumo_keras.model.initial import build_glorot, draw_nothing, replace_draws


def build_layer():
    layer = keras.layers.Conv2D(8, 3)
    layer.build((None, None, None, 4))
    return layer


def test_kernels_come_from_the_draw_and_the_layer_says_what_it_says_otherwise():
    with replace_draws(lambda shape: np.full(shape, 2, np.float32)):
        layer = build_layer()
    np.testing.assert_array_equal(layer.kernel, np.full((3, 3, 4, 8), 2))
    np.testing.assert_array_equal(layer.bias, np.zeros(8))
    assert layer.get_config() == {**build_layer().get_config(), "name": layer.name}


def test_constants_stay_what_they_are():
    with replace_draws(draw_nothing):
        layer = keras.layers.BatchNormalization()
        layer.build((None, 4))
    for variable, value in [(layer.gamma, 1), (layer.beta, 0), (layer.moving_variance, 1)]:
        np.testing.assert_array_equal(variable, np.full(4, value))


def test_layers_draw_for_themselves_afterwards():
    with pytest.raises(ZeroDivisionError), replace_draws(draw_nothing):
        raise ZeroDivisionError
    assert len(np.unique(build_layer().kernel)) == 3 * 3 * 4 * 8


def test_a_replaced_layer_draws_nothing_by_keras(monkeypatch):
    monkeypatch.setattr(
        "keras.src.initializers.random_initializers.random.uniform",
        lambda *_, **__: pytest.fail("numbers were drawn"),
    )
    with replace_draws(draw_nothing):
        build_layer()


def test_draws_are_glorot_s():
    drawn = build_glorot(1)((3, 3, 40, 80))
    limit = np.sqrt(6 / (9 * (40 + 80)))
    assert np.abs(drawn).max() <= limit
    assert (drawn.dtype, drawn.std()) == (np.float32, pytest.approx(limit / np.sqrt(3), rel=0.02))
    assert drawn.mean() == pytest.approx(0, abs=limit / 50)


def test_the_same_seed_gives_the_same_draws():
    first, second, other = build_glorot(1), build_glorot(1), build_glorot(2)
    for shape in [(3, 3, 4, 8), (1, 1, 4, 8)]:
        drawn = first(shape)
        np.testing.assert_array_equal(drawn, second(shape))
        assert not np.array_equal(drawn, other(shape))
