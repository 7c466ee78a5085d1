import keras
import numpy as np
import pytest

from pneumo_keras.model.backbone import build_backbone, join_feature_layers
from pneumo_keras.model.maps import Axis, build_map_model, locate_cells
from tests.toy import build_toy_backbone


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
    maps = build_map_model(build_summing_backbone(size, padding))
    high, low = locate_cells(maps)
    assert high[0].step == 8 and low[0].step == 4
    spots = np.zeros((size, size, size, 3), np.float32)
    spots[np.arange(size), :, np.arange(size)] = 1  # a bright column in each
    for (_, across), seen in zip((high, low), maps.predict_on_batch(spots), strict=True):
        cells = seen.shape[2]
        of_cell = np.asarray(seen)[:, seen.shape[1] // 2, cells // 2, 0]  # far from all borders
        middle = (of_cell * np.arange(size)).sum() / of_cell.sum()
        assert middle == pytest.approx(across.first + across.step * (cells // 2), abs=1e-3)


@pytest.mark.slow
def test_cells_of_the_real_network_lie_where_its_layers_without_padding_put_them():
    network = build_backbone("none", image_size=199, feature_layers=["mixed2", "mixed5"])
    assert locate_cells(build_map_model(network)) == [(Axis(13, 8),) * 2, (Axis(21, 16),) * 2]


def test_maps_come_in_the_order_of_the_features():
    backbone = build_toy_backbone(feature_layers=("mixed10", "mixed4"))
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    maps = keras.tree.flatten(build_map_model(backbone).predict_on_batch(images))
    assert [one.shape for one in maps] == [(2, 4, 4, 6), (2, 8, 8, 6)]
    pooled = np.concatenate([one.mean(axis=(1, 2)) for one in maps], axis=1)
    np.testing.assert_allclose(pooled, backbone.predict_on_batch(images), atol=1e-6)


def test_nothing_is_lost_or_added_where_cells_are_spread():
    for axis, cells in ((Axis(13, 8), 22), (Axis(1, 2), 8), (Axis(31, 64), 2)):
        shares = axis.spread(cells, length=199, pixels=28)
        np.testing.assert_allclose(shares.sum(axis=0), 1)
        assert shares.min() >= 0


def test_a_cell_is_strongest_where_it_lies():
    shares = Axis(13, 8).spread(22, length=199, pixels=28)
    for cell in (3, 10, 18):
        middle = (13 + 8 * cell + 0.5) * 28 / 199 - 0.5
        assert abs(shares[:, cell].argmax() - middle) <= 0.5
        assert shares[:, cell] @ np.arange(28) == pytest.approx(middle, abs=0.3)
    even = shares.sum(axis=1)[8:-8]
    assert even.max() / even.min() < 1.01  # what is the same everywhere shows no pattern
