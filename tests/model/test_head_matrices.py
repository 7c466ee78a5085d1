import keras
import numpy as np
import pytest

from pneumo_keras.errors import ModelError
from pneumo_keras.exports.head import read_head
from pneumo_keras.model.head import EQUATION
from pneumo_keras.model.head_matrices import read_members
from pneumo_keras.model.plane import read_plane

FEATURES = np.random.default_rng(0).uniform(0, 1, (4, 3)).astype(np.float32)


def build_stiff_head():
    """One of its features never varies, and `build_standardisation` has not bounded its variance."""
    features = keras.Input((3,))
    variance = np.array([1.0, 0.0, 2.0])
    x = keras.layers.Normalization(-1, mean=FEATURES.mean(axis=0), variance=variance)(features)
    x = keras.layers.EinsumDense(EQUATION, (2, 1), bias_axes="mo", name="logits")(x)
    return keras.Model(features, x[..., 0], name="head")


def test_a_feature_that_never_varies_is_bounded_as_keras_does_it_for_planes_and_exports():
    head = build_stiff_head()
    (layer,) = read_members(head).layers
    own = np.asarray(head.predict_on_batch(FEATURES), np.float64)
    plane, (dense,) = read_plane(head, FEATURES), read_head(head).layers
    np.testing.assert_allclose(plane.log_odds, own.mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(dense.kernel.T, layer.kernels[..., 0])
    np.testing.assert_allclose(plane.gradient, np.tile(dense.kernel.mean(axis=1), (4, 1)))


def test_what_is_no_graph_is_refused():
    class Odd(keras.Model):
        pass

    with pytest.raises(ModelError, match=r"Cannot rewrite the head: Odd 'odd' must end in log odds"):
        read_members(Odd(name="odd"))
