import numpy as np
import pytest

from pneumo_keras.model.layers import build_glorot


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
