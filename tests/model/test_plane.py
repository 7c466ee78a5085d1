import keras
import numpy as np
import pytest

from pneumo_keras.errors import ModelError
from pneumo_keras.model.head import build_head
from pneumo_keras.model.plane import read_plane

RANDOM = np.random.default_rng(0)
D = 5
FEATURES = RANDOM.normal(size=(4, D)).astype(np.float32)
MOMENTS = (RANDOM.normal(size=D), RANDOM.uniform(0.5, 2, D))


def build(**changes):
    settings = {
        "moments": None,
        "hidden_units": 0,
        "dropout": 0.5,
        "outputs": 1,
        "seeds": (1, 2, 3),
        **changes,
    }
    head = build_head(D, **settings)
    for variable in head.trainable_variables:
        variable.assign(RANDOM.normal(size=variable.shape))  # biases too, which start as zeros
    return head


def to_log_odds(head, features):
    return np.asarray(head.predict_on_batch(features), np.float64).mean(axis=1)


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("hidden_units", [0, 6])
@pytest.mark.parametrize("moments", [None, MOMENTS])
def test_log_odds_and_gradient_are_the_heads_own(moments, hidden_units, outputs, seeds):
    head = build(moments=moments, hidden_units=hidden_units, outputs=outputs, seeds=seeds)
    plane = read_plane(head, FEATURES)
    np.testing.assert_allclose(plane.log_odds, to_log_odds(head, FEATURES), rtol=1e-5, atol=1e-5)
    step = 1e-2
    for feature in range(D):
        moved = np.zeros(D, np.float32)
        moved[feature] = step
        above, below = (to_log_odds(head, FEATURES + sign * moved) for sign in (1, -1))
        # Units that turn on or off within the step would bend the line.
        straight = np.abs(above + below - 2 * plane.log_odds) < 1e-4
        assert straight.any()
        slope = (above - below) / (2 * step)
        np.testing.assert_allclose(plane.gradient[straight, feature], slope[straight], atol=1e-3)


def test_a_head_of_another_kind_is_refused():
    features = keras.Input((D,), name="features")
    hidden = keras.layers.Dense(3, activation="relu", name="first")(features)
    other = keras.Model(features, keras.layers.Dense(1, name="logits")(hidden), name="head")
    with pytest.raises(ModelError) as caught:
        read_plane(other, FEATURES)
    assert str(caught.value) == (
        "Only a head of standardisation or none, one hidden ReLU layer or none, and logits can be explained. "
        "Received: features, first, logits"
    )


@pytest.mark.parametrize("hidden_units", [0, 6])
def test_a_head_with_a_layer_that_nobody_asked_about_is_refused(hidden_units):
    known = build(hidden_units=hidden_units)
    features = keras.Input((D,), name="features")
    squashed = keras.layers.Activation("tanh", name="squash")(features)
    x = squashed
    for layer in known.layers[1:]:
        x = layer(x)
        if layer.name == "logits":
            break
    other = keras.Model(features, x[..., 0], name="head")
    with pytest.raises(ModelError, match="can be explained"):
        read_plane(other, FEATURES)
