import keras
import numpy as np
import pytest

from pneumo_keras.model import fingerprint as module
from pneumo_keras.model.backbone import build_backbone, select_feature_layers
from pneumo_keras.model.classifier import Classifier, build_frozen_part, load_classifier
from pneumo_keras.model.fingerprint import compute_fingerprint, describe_feature_layers
from pneumo_keras.model.head import build_decision, build_head
from tests.toy import build_toy_backbone


def hash_feature_layers(backbone):
    return {name: layer.fingerprint for name, layer in describe_feature_layers(backbone).items()}


def build(wire):
    images = keras.Input((8, 8, 3))
    return keras.Model(images, wire(images))


def build_convolution(**settings):
    initializer = keras.initializers.GlorotUniform(seed=1)
    layer = keras.layers.Conv2D(3, 3, padding="same", kernel_initializer=initializer, **settings)
    return build(lambda images: keras.layers.BatchNormalization(epsilon=1e-3)(layer(images)))


def test_the_same_graph_and_weights_have_the_same_fingerprint():
    first, second = build_toy_backbone(), build_toy_backbone()
    assert compute_fingerprint(first) == compute_fingerprint(second)
    kernel = second.weights[0]
    kernel.assign(kernel + np.float32(1e-6))
    assert compute_fingerprint(first) != compute_fingerprint(second)


def test_names_do_not_count():
    assert compute_fingerprint(build_convolution(name="one")) == compute_fingerprint(
        build_convolution(name="two")
    )


def test_other_strides_have_another_fingerprint():
    assert compute_fingerprint(build_convolution()) != compute_fingerprint(build_convolution(strides=2))


def test_another_epsilon_has_another_fingerprint():
    one, two = (build(keras.layers.BatchNormalization(epsilon=epsilon)) for epsilon in (1e-3, 1e-5))
    assert compute_fingerprint(one) != compute_fingerprint(two)


def test_another_kind_of_layer_has_another_fingerprint():
    one, two = build(keras.layers.MaxPooling2D(2)), build(keras.layers.AveragePooling2D(2))
    assert compute_fingerprint(one) != compute_fingerprint(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (lambda x: x / 255.0, lambda x: x / 127.5),
        (lambda x: x[:, ::2], lambda x: x[:, 1::2]),
        (lambda x: keras.ops.flip(x, axis=1), lambda x: keras.ops.flip(x, axis=2)),
        (lambda x: x - keras.ops.flip(x, axis=1), lambda x: keras.ops.flip(x, axis=1) - x),
    ],
    ids=["constant", "slice", "argument", "order of inputs"],
)
def test_operations_count_with_their_arguments_and_inputs(one, two):
    assert compute_fingerprint(build(one)) == compute_fingerprint(build(one))
    assert compute_fingerprint(build(one)) != compute_fingerprint(build(two))


def test_a_model_inside_a_model_counts():
    inner = [build(lambda x, by=by: x * by) for by in (2.0, 3.0)]
    one, two = (build(model) for model in inner)
    assert compute_fingerprint(one) != compute_fingerprint(two)


def test_a_feature_layer_has_the_fingerprint_of_what_lies_below_it(monkeypatch):
    whole, low = (
        build_toy_backbone(feature_layers=("mixed4", "mixed10")),
        build_toy_backbone(feature_layers=("mixed4",)),
    )
    found = hash_feature_layers(whole)
    assert found["mixed4"] == hash_feature_layers(low)["mixed4"]
    assert found["mixed10"] == hash_feature_layers(select_feature_layers(whole, ["mixed10"]))["mixed10"]
    whole.weights[-1].assign(whole.weights[-1] + 1)
    changed = hash_feature_layers(whole)
    assert (changed["mixed4"] == found["mixed4"], changed["mixed10"] == found["mixed10"]) == (True, False)


def test_weights_below_several_feature_layers_are_hashed_once(monkeypatch):
    hashed = []
    hash_array = module._hash_array
    monkeypatch.setattr(
        module, "_hash_array", lambda variable: hashed.append(variable) or hash_array(variable)
    )
    backbone = build_toy_backbone(feature_layers=("mixed4", "mixed10"))
    hash_feature_layers(backbone)
    assert len(hashed) == len(backbone.variables)


def test_a_saved_model_has_the_fingerprints_of_the_one_that_was_fitted(tmp_path):
    backbone = build_toy_backbone(feature_layers=("mixed4", "mixed10"))
    head = build_head(12, moments=None, hidden_units=0, dropout=0, outputs=1, seeds=[1])
    fitted = Classifier(build_frozen_part(backbone, data_size=28), head, build_decision(), flip_average=False)
    fitted.join().save(tmp_path / "model.keras")
    loaded = load_classifier(tmp_path / "model.keras")
    for part in ("resize", "scale", "backbone"):
        assert compute_fingerprint(getattr(loaded.frozen, part)) == compute_fingerprint(
            getattr(fitted.frozen, part)
        )


@pytest.mark.slow
def test_inception_saved_and_loaded_has_the_same_fingerprint(tmp_path):
    backbone = build_backbone("none", image_size=75, feature_layers=["mixed2", "mixed0"])
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    assert hash_feature_layers(loaded) == hash_feature_layers(backbone)
