"""The classifier's parts, read for rewriting, or refused by their names."""

import keras
import numpy as np
import pytest

from pneumo_keras.errors import ModelError
from pneumo_keras.exports.head import read_head
from pneumo_keras.exports.preprocessing import (
    Preprocessing,
    Resize,
    Scaling,
    read_decision,
    read_preprocessing,
)
from pneumo_keras.model.classifier import FrozenPart, build_frozen_part, load_classifier
from pneumo_keras.model.head import build_decision
from pneumo_keras.model.preprocessing import build_scaling
from tests.exports.classifiers import build_classifier, build_random_head
from tests.toy import build_toy_backbone

FEATURES = np.random.default_rng(2).uniform(0, 1, (7, 12)).astype(np.float32)


def compute(head, features):
    """As the matrices say, in float64."""
    value = features - (0 if head.shift is None else head.shift)
    for layer in head.layers:
        value = value @ layer.kernel + layer.bias
        value = value.clip(0) if layer.relu else value
    return value


@pytest.mark.parametrize("hidden_units", [0, 4])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_head_s_matrices_give_its_log_odds(hidden_units, outputs):
    head = build_random_head(
        12,
        moments=(FEATURES.mean(axis=0), FEATURES.var(axis=0)),
        members=3,
        outputs=outputs,
        hidden_units=hidden_units,
    )
    log_odds = keras.ops.convert_to_numpy(head(FEATURES))
    np.testing.assert_allclose(compute(read_head(head), FEATURES), log_odds, atol=1e-5)


def test_two_outputs_are_one_difference_before_anything_runs():
    (layer,) = read_head(build_classifier(members=3, outputs=2).head).layers
    assert layer.kernel.shape == (12, 3)


def test_the_preprocessing_is_read_with_its_sizes():
    assert read_preprocessing(build_frozen_part(build_toy_backbone(), data_size=28)) == Preprocessing(
        (Resize(28, 28), Resize(16, 16)),
        Scaling(1 / 127.5, -1.0),
        channels=3,
    )


def test_the_decision_is_the_calibration():
    assert read_decision(build_decision(slope=0.7, intercept=0.3)) == Scaling(0.7, 0.3)


def test_a_saved_classifier_reads_as_before(tmp_path):
    classifier = build_classifier(members=2, hidden_units=3)
    classifier.join().save(tmp_path / "model.keras")
    loaded = load_classifier(tmp_path / "model.keras")
    assert read_preprocessing(loaded.frozen) == read_preprocessing(classifier.frozen)
    assert read_decision(loaded.decision) == read_decision(classifier.decision)
    for one, other in zip(read_head(loaded.head).layers, read_head(classifier.head).layers, strict=True):
        np.testing.assert_array_equal(one.kernel, other.kernel)


def build_head(*layers):
    x = features = keras.Input((12,))
    for layer in layers:
        x = layer(x)
    return keras.Model(features, x, name="head")


DENSE = "nd,mdo->nmo"


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([keras.layers.Dense(1, name="odd")], "the head: Dense 'odd' has no exact rewriting"),
        ([keras.layers.Dropout(0.1)], "must end in log odds, from one output or two. Received: 0"),
        (
            [keras.layers.Normalization(invert=True, mean=0.0, variance=1.0, name="odd")],
            "must standardise each",
        ),
        (
            [keras.layers.EinsumDense("nd,do->no", 1, bias_axes="o", name="odd")],
            f"EinsumDense 'odd' must compute {DENSE} with a bias. Received: nd,do->no",
        ),
        (
            [keras.layers.EinsumDense(DENSE, (2, 1), bias_axes="mo", activation="tanh", name="odd")],
            "must have no activation but relu. Received: tanh",
        ),
        ([keras.layers.EinsumDense(DENSE, (2, 3), bias_axes="mo")], "from one output or two. Received: 3"),
    ],
)
def test_another_head_is_refused(layers, message):
    with pytest.raises(ModelError) as caught:
        read_head(build_head(*layers))
    assert message in str(caught.value)


@pytest.mark.parametrize(("interpolation", "antialias"), [("bicubic", True), ("bilinear", False)])
def test_another_resizing_is_refused(interpolation, antialias):
    images = keras.Input((None, None, 1))
    resized = keras.ops.image.resize(images, (16, 16), interpolation=interpolation, antialias=antialias)
    frozen = FrozenPart(keras.Model(images, resized), build_scaling(16), build_toy_backbone())
    with pytest.raises(ModelError, match="must resize antialiased and bilinear"):
        read_preprocessing(frozen)


def test_another_decision_is_refused():
    log_odds = keras.Input((None,))
    decision = keras.Model(log_odds, keras.ops.mean(log_odds, axis=-1, keepdims=True), name="decision")
    with pytest.raises(ModelError, match="'decision' must hold Mean, Rescaling, Activation"):
        read_decision(decision)
