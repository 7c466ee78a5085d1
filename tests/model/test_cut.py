import keras
import numpy as np
import pytest

from pneumo_keras.model.backbone import build_backbone, list_feature_layers
from pneumo_keras.model.cut import cut_backbone
from pneumo_keras.model.fingerprint import compute_feature_layer_fingerprints, compute_fingerprint
from tests.toy import SIZE, build_branched_backbone

FEATURE_LAYERS = ("mixed10", "mixed0", "mixed4")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, SIZE, SIZE, 3)).astype(np.float32)


def build(feature_layers=FEATURE_LAYERS):
    backbone = build_branched_backbone(feature_layers=feature_layers)
    rng = np.random.default_rng(1)
    for variable in backbone.weights:
        variable.assign(variable + rng.uniform(0, 0.5, variable.shape))
    return backbone


@pytest.mark.parametrize(
    ("block", "feature_layers"),
    [
        ("mixed0", {"cut": 4 * 4 * 4}),
        ("mixed4", {"cut": 4 * 4 * 7}),
        ("mixed10", {"cut": 4 * 4 * 7, "mixed0": 7}),
    ],
)
def test_both_parts_together_give_the_features_of_the_whole(block, feature_layers):
    backbone = build()
    cut = cut_backbone(backbone, block)
    assert list_feature_layers(cut.lower) == feature_layers
    features = cut.upper.predict_on_batch(cut.lower.predict_on_batch(IMAGES))
    np.testing.assert_allclose(features, backbone.predict_on_batch(IMAGES), rtol=1e-6)


def test_the_whole_is_a_copy():
    backbone = build()
    cut = cut_backbone(backbone, "mixed4")
    assert compute_fingerprint(cut.whole) == compute_fingerprint(backbone)
    assert cut.whole.name == backbone.name
    assert list_feature_layers(cut.whole) == list_feature_layers(backbone)
    before = backbone.get_weights()
    for variable in cut.whole.weights:
        variable.assign(variable + 1)
    for mine, theirs in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_convolutions_above_the_cut_learn_and_nothing_else():
    cut = cut_backbone(build(), "mixed4")
    learning = {id(variable) for variable in cut.upper.trainable_variables}
    convolutions = [layer for layer in cut.whole.layers if isinstance(layer, keras.layers.Conv2D)]
    below = {layer.name for layer in cut.lower.layers}
    assert learning == {id(layer.kernel) for layer in convolutions if layer.name not in below}
    assert len(learning) == 6
    assert not cut.lower.trainable_variables
    assert not cut.whole.trainable_variables


def test_activations_are_addressed_by_what_lies_below_them():
    backbone = build()
    addresses = compute_feature_layer_fingerprints(cut_backbone(backbone, "mixed10").lower)
    assert addresses["mixed0"] == compute_feature_layer_fingerprints(backbone)["mixed0"]
    *_, highest = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    highest.kernel.assign(highest.kernel + 1)
    assert compute_feature_layer_fingerprints(cut_backbone(backbone, "mixed10").lower) == addresses
    lowest = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D))
    lowest.kernel.assign(lowest.kernel + 1)
    assert (
        compute_feature_layer_fingerprints(cut_backbone(backbone, "mixed10").lower)["cut"] != addresses["cut"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "feature_layers", "learning"),
    [
        ("mixed0", {"cut": 7 * 7 * 192}, 89),
        ("mixed3", {"cut": 7 * 7 * 288}, 68),
        ("mixed8", {"cut": 3 * 3 * 768, "mixed2": 288}, 24),
        ("mixed10", {"cut": 2048, "mixed2": 288, "mixed7": 768}, 9),
    ],
)
def test_inception_v3_is_cut_between_its_blocks(block, feature_layers, learning):
    backbone = build_backbone("none", image_size=75, feature_layers=("mixed2", "mixed10", "mixed7"))
    cut = cut_backbone(backbone, block)
    assert list_feature_layers(cut.lower) == feature_layers
    assert len(cut.upper.trainable_variables) == learning
    images = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)
    features = cut.upper.predict_on_batch(cut.lower.predict_on_batch(images))
    np.testing.assert_allclose(features, backbone.predict_on_batch(images), rtol=1e-5, atol=1e-6)
