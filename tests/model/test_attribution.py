import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import expit

from pneumo_keras.model.attribution import (
    Explainer,
    build_explainer,
    linearise_head,
    spread_cells,
)
from pneumo_keras.model.backbone import build_backbone, build_map_network, join_feature_layers, locate_cells
from pneumo_keras.model.classifier import Classifier, build_frozen_part
from pneumo_keras.model.fingerprint import describe_feature_layers
from pneumo_keras.model.head import build_decision, build_head, read_members
from pneumo_keras.model.inference import Axis
from tests.networks import build_network
from tests.toy import build_toy_backbone

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 20, 20), dtype=np.uint8)
FEATURE_LAYERS = ("mixed4", "mixed10")
WIDTH = 6 * len(FEATURE_LAYERS)
MOMENTS = (RANDOM.normal(size=WIDTH), RANDOM.uniform(0.5, 2, WIDTH))


def build(*, flip_average=False, draw=RANDOM, **changes):
    settings = {"moments": MOMENTS, "hidden_units": 0, "dropout": 0.0, "outputs": 1, **changes}
    head = build_head(WIDTH, seeds=(1, 2), **settings)
    for variable in head.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    frozen = build_frozen_part(build_toy_backbone(feature_layers=FEATURE_LAYERS), data_size=20)
    return Classifier(frozen, head, build_decision(slope=0.7, intercept=0.3), flip_average)


def explain_with(classifier, normal):
    """An explainer of the classifier that compares with these images."""
    network = build_network(classifier.frozen.backbone)
    explainer = Explainer(
        layers=list(network.layers.values()),
        compute_maps=network.build_map_runner(),
        head=read_members(classifier.head),
        slope=0.7,
        intercept=0.3,
        flip_average=classifier.flip_average,
        image_size=network.image_size,
    )
    return build_explainer(explainer, normal)


@pytest.mark.parametrize("flip_average", [False, True])
@pytest.mark.parametrize(("hidden_units", "outputs"), [(0, 1), (0, 2), (5, 2)])
def test_evidence_and_base_add_up_to_the_score_of_the_saved_model(flip_average, hidden_units, outputs):
    classifier = build(flip_average=flip_average, hidden_units=hidden_units, outputs=outputs)
    explainer = explain_with(classifier, IMAGES[:3])
    scores = classifier.join().predict_on_batch(IMAGES[..., None].astype(np.float32))[:, 0]
    for explanation, score in zip(explainer.explain(IMAGES), scores, strict=True):
        assert explanation.evidence.shape == (20, 20)
        log_odds = explanation.base + explanation.evidence.mean(dtype=float)
        assert expit(log_odds) == pytest.approx(score, abs=1e-5)
        assert log_odds == pytest.approx(np.log(score / (1 - score)), abs=1e-4)


@pytest.mark.parametrize("flip_average", [False, True])
def test_a_normal_image_is_no_evidence_where_it_is_compared_with_itself(flip_average):
    explainer = explain_with(build(flip_average=flip_average), IMAGES[:1])
    same, other = explainer.explain(IMAGES[:2])
    assert np.abs(same.evidence).max() < 1e-5
    assert np.abs(other.evidence).max() > 1e-2


def test_a_linear_heads_evidence_averages_to_nothing_over_the_normal_images():
    explainer = explain_with(build(), IMAGES[:3])
    evidence = list(explainer.explain(IMAGES[:3]))
    assert np.abs(np.mean([one.evidence for one in evidence], axis=0)).max() < 1e-4
    assert len({round(one.base, 4) for one in evidence}) == 1  # what the classifier says of normal images


def test_evidence_lies_where_images_differ():
    explainer = explain_with(build(), IMAGES[:1])
    changed = IMAGES[0].copy()
    changed[3:7, 12:16] = 255 - changed[3:7, 12:16]
    (explanation,) = explainer.explain(changed[None])
    evidence = np.abs(explanation.evidence)
    row, column = np.unravel_index(evidence.argmax(), evidence.shape)
    assert 2 <= row <= 8 and 11 <= column <= 17
    assert evidence[14:, :6].max() < 0.05 * evidence.max()


def test_a_mirrored_image_has_mirrored_evidence_where_both_are_averaged():
    explainer = explain_with(build(flip_average=True), IMAGES[:1])
    mirrored = np.ascontiguousarray(IMAGES[1:2, :, ::-1])
    own = explain_with(build(flip_average=True), np.ascontiguousarray(IMAGES[:1, :, ::-1]))
    own = replace(own, compute_maps=explainer.compute_maps, head=explainer.head)
    (turned,), (straight,) = own.explain(mirrored), explainer.explain(IMAGES[1:2])
    np.testing.assert_allclose(turned.evidence[:, ::-1], straight.evidence, atol=1e-4)


@pytest.mark.parametrize("hidden_units", [0, 5])
def test_evidence_depends_on_what_the_head_has_learnt(hidden_units):
    """Maps that stay when the weights are drawn anew would show the image alone (Adebayo et al., 2018)."""
    maps = [
        next(
            explain_with(
                build(hidden_units=hidden_units, draw=np.random.default_rng(seed)), IMAGES[:3]
            ).explain(IMAGES[4:5])
        )
        for seed in range(6)
    ]
    between = np.corrcoef([one.evidence.ravel() for one in maps])[np.triu_indices(6, 1)]
    assert np.abs(between).mean() < 0.6
    assert between.max() < 0.95


FEATURES = RANDOM.normal(size=(4, 5)).astype(np.float32)
VARYING = (RANDOM.normal(size=5), RANDOM.uniform(0.5, 2, 5))


def to_log_odds(head, features):
    return np.asarray(head.predict_on_batch(features), np.float64).mean(axis=1)


@pytest.mark.parametrize(("outputs", "hidden_units"), [(1, 0), (2, 0), (1, 6), (2, 6)])
@pytest.mark.parametrize("moments", [None, VARYING])
def test_log_odds_and_gradient_are_the_heads_own(moments, hidden_units, outputs):
    head = build_head(
        5, moments=moments, hidden_units=hidden_units, dropout=0.5, outputs=outputs, seeds=(1, 2, 3)
    )
    for variable in head.trainable_variables:
        variable.assign(RANDOM.normal(size=variable.shape))  # biases too, which start as zeros
    gradient, log_odds = linearise_head(read_members(head), FEATURES)
    np.testing.assert_allclose(log_odds, to_log_odds(head, FEATURES), rtol=1e-5, atol=1e-5)
    step = 1e-2
    for feature in range(5):
        moved = step * np.eye(5, dtype=np.float32)[feature]
        above, below = (to_log_odds(head, FEATURES + sign * moved) for sign in (1, -1))
        # Units that turn on or off within the step would bend the line.
        straight = np.abs(above + below - 2 * log_odds) < 1e-4
        assert straight.any()
        slope = (above - below) / (2 * step)
        np.testing.assert_allclose(gradient[straight, feature], slope[straight], atol=1e-3)


def test_a_feature_that_never_varies_is_bounded_as_keras_does_it():
    features = keras.Input((5,))
    moments = {"mean": FEATURES.mean(axis=0), "variance": np.array([1.0, 0.0, 2.0, 1.0, 1.0])}
    x = keras.layers.Normalization(-1, **moments)(features)
    x = keras.layers.EinsumDense("nd,mdo->nmo", (2, 1), bias_axes="mo")(x)
    head = keras.Model(features, x[..., 0])
    _, log_odds = linearise_head(read_members(head), FEATURES)
    np.testing.assert_allclose(log_odds, to_log_odds(head, FEATURES), rtol=1e-5)


def build_summing_backbone(size, padding):
    """Every cell is the sum over its field of view, in which all pixels that it can see count."""
    images = keras.Input((size, size, 3))
    x = images
    for index, (window, step) in enumerate([((3, 3), 2), ((1, 3), 1), ((3, 1), 1), ((2, 2), 2)]):
        conv = keras.layers.Conv2D(1, window, step, padding, kernel_initializer="ones", name=f"conv{index}")
        x = conv(x)
    low = keras.layers.GlobalAveragePooling2D(name="mixed0_pooled")(x)
    x = keras.layers.AveragePooling2D(3, 2, padding="valid", name="pool")(x)
    return join_feature_layers(images, [keras.layers.GlobalAveragePooling2D(name="mixed1_pooled")(x), low])


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [40, 41])
def test_a_cell_lies_in_the_middle_of_what_it_sees(size, padding):
    backbone = build_summing_backbone(size, padding)
    cells = locate_cells(backbone)
    high, low = cells["mixed1"], cells["mixed0"]
    shapes = [layer.shape for layer in describe_feature_layers(backbone).values()]
    assert high[0].step == 8 and low[0].step == 4
    spots = np.zeros((size, size, size, 3), np.float32)
    spots[np.arange(size), :, np.arange(size)] = 1  # a bright column in each
    flat = np.asarray(build_map_network(backbone).predict_on_batch(spots))
    parts = np.split(flat, [math.prod(shapes[0])], axis=1)
    for (_, across), (down, cells), seen in zip((high, low), shapes, parts, strict=True):
        of_cell = seen.reshape(size, down, cells)[:, down // 2, cells // 2]  # far from all borders
        middle = (of_cell * np.arange(size)).sum() / of_cell.sum()
        assert middle == pytest.approx(across.first + across.step * (cells // 2), abs=1e-3)


@pytest.mark.slow
def test_cells_of_the_real_network_lie_where_its_layers_without_padding_put_them():
    network = build_backbone("none", image_size=199, feature_layers=["mixed2", "mixed5"])
    assert locate_cells(network) == {"mixed2": (Axis(13, 8),) * 2, "mixed5": (Axis(21, 16),) * 2}


def test_maps_come_in_the_order_of_the_features():
    backbone = build_toy_backbone(feature_layers=("mixed10", "mixed4"))
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    flat = np.asarray(build_map_network(backbone).predict_on_batch(images))
    shapes = [(*layer.shape, layer.d) for layer in describe_feature_layers(backbone).values()]
    assert shapes == [(4, 4, 6), (8, 8, 6)]
    high, low = np.split(flat, [4 * 4 * 6], axis=1)
    maps = [high.reshape(2, 4, 4, 6), low.reshape(2, 8, 8, 6)]
    pooled = np.concatenate([one.mean(axis=(1, 2)) for one in maps], axis=1)
    np.testing.assert_allclose(pooled, backbone.predict_on_batch(images), atol=1e-6)


def test_nothing_is_lost_or_added_where_cells_are_spread():
    for axis, cells in ((Axis(13, 8), 22), (Axis(1, 2), 8), (Axis(31, 64), 2)):
        shares = spread_cells(axis, cells, length=199, pixels=28)
        np.testing.assert_allclose(shares.sum(axis=0), 1)
        assert shares.min() >= 0


def test_a_cell_is_strongest_where_it_lies():
    shares = spread_cells(Axis(13, 8), 22, length=199, pixels=28)
    for cell in (3, 10, 18):
        middle = (13 + 8 * cell + 0.5) * 28 / 199 - 0.5
        assert abs(shares[:, cell].argmax() - middle) <= 0.5
        assert shares[:, cell] @ np.arange(28) == pytest.approx(middle, abs=0.3)
    even = shares.sum(axis=1)[8:-8]
    assert even.max() / even.min() < 1.01  # what is the same everywhere shows no pattern
