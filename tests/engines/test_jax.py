import keras
import numpy as np
import pytest

pytest.importorskip("jax")
if keras.config.backend() != "jax":
    pytest.skip("needs KERAS_BACKEND=jax", allow_module_level=True)

from pneumo_keras.engines import jax as module
from pneumo_keras.engines.graph import read_graph
from pneumo_keras.engines.jax import Product, build_runner, plan_steps
from tests.conftest import SHARED
from tests.engines.toys import (
    CHAINS,
    build_backbone,
    build_chain,
    build_fork,
    build_toy,
    draw_images,
    randomise,
    to_deviation,
)


def compute(backbone, images, precision="float32"):
    (features,) = build_runner(backbone, precision=precision)([images])
    return features


@pytest.mark.parametrize("feature_layers", [("mixed_a",), ("mixed_b",), ("mixed_b", "mixed_a")])
def test_features_are_those_of_keras(feature_layers):
    backbone, images = build_toy(feature_layers), draw_images(3)
    assert to_deviation(compute(backbone, images), backbone, images) < 1e-6


@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_single_layers_give_what_keras_gives(layers):
    backbone, images = randomise(build_chain(*layers())), draw_images(2, 9)
    assert to_deviation(compute(backbone, images), backbone, images) < 1e-6


def test_the_number_of_images_changes_no_feature():
    images = draw_images(8)
    runner = build_runner(build_toy(), precision="float32")
    whole, *parts = runner([images, images[:0], images[:1], images[:5]])
    for part in parts:
        np.testing.assert_allclose(part, whole[: len(part)], rtol=1e-5)


def test_the_program_for_accelerators_gives_the_same_features(monkeypatch):
    monkeypatch.setattr(module.jax, "default_backend", lambda: "gpu")
    backbone, images = build_toy(), draw_images(4)
    assert to_deviation(compute(backbone, images), backbone, images) < 1e-6


def test_bfloat16_gives_nearly_the_same_features():
    backbone, images = build_toy(), draw_images(2)
    features = compute(backbone, images, "bfloat16")
    assert features.dtype == np.float32
    assert 0 < to_deviation(features, backbone, images) < 0.05


def list_products(steps):
    return [step for step in steps if isinstance(step, Product)]


def list_names(steps):
    return [step.name for step in steps if not isinstance(step, Product)]


def test_pointwise_convolutions_of_one_input_become_one_product():
    steps = plan_steps(read_graph(build_toy()))
    (product,) = list_products(steps)
    pools = {convolution.name: pool and pool.name for convolution, pool in product.parts}
    assert len(pools) == 4
    assert {"one": None, "two": None, "behind_pool": "pool"}.items() <= pools.items()
    assert "pool" not in list_names(steps)


def test_average_pooling_with_two_kinds_of_users_stays_where_it_is():
    pool = keras.layers.AveragePooling2D(3, strides=1, padding="same", name="pool")
    users = keras.layers.Conv2D(4, 1), keras.layers.Conv2D(4, 3, padding="same")
    backbone, images = build_fork(pool, *users), draw_images(2, 9)
    assert "pool" in list_names(plan_steps(read_graph(backbone)))
    assert to_deviation(compute(backbone, images), backbone, images) < 1e-6


@pytest.mark.slow
@pytest.mark.real_data
def test_pretrained_features_of_real_images_are_those_of_keras():
    weights = SHARED / "weights" / "inception_v3_notop.weights.h5"
    app = keras.applications.InceptionV3(include_top=False, weights=weights, input_shape=(75, 75, 3))
    backbone = build_backbone(app, [f"mixed{i}" for i in range(11)])
    assert len(list_products(plan_steps(read_graph(backbone)))) == 12
    with np.load(SHARED / "data" / "pneumoniamnist.npz") as images:
        grey = images["test_images"][:1].astype("float32")[..., None] / 127.5 - 1
    arrays = np.repeat(np.asarray(keras.ops.image.resize(grey, (75, 75))), 3, axis=-1)
    assert to_deviation(compute(backbone, arrays), backbone, arrays) < 3e-6
