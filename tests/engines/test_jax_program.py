import pathlib

import jax
import keras
import numpy as np
import pytest

from pneumo_keras.engines.graph import read_graph
from pneumo_keras.engines.jax_program import (
    Direct,
    Filtered,
    Product,
    build_runner,
    choose_cpu_options,
    write_program,
)
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

SHARED = pathlib.Path(__file__).parents[2] / ".." / "shared"
WEIGHTS = SHARED / "weights" / "inception_v3_notop.weights.h5"
IMAGES = SHARED / "data" / "pneumoniamnist.npz"


def write(backbone, precision="float32", platform=None):
    platform = platform or jax.default_backend()
    return write_program(read_graph(backbone), precision=precision, platform=platform)


def compute(program, images):
    return np.asarray(program.compute(images))


def steps_of(program, kind):
    return [step for step in program.steps if isinstance(step, kind)]


@pytest.mark.parametrize("feature_layers", [("mixed_a",), ("mixed_b",), ("mixed_b", "mixed_a")])
def test_features_are_those_of_keras(feature_layers):
    backbone, images = build_toy(feature_layers), draw_images(3)
    assert to_deviation(compute(write(backbone), images), backbone, images) < 1e-6


@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_single_layers_give_what_keras_gives(layers):
    backbone, images = randomise(build_chain(*layers())), draw_images(2, 9)
    assert to_deviation(compute(write(backbone), images), backbone, images) < 1e-6


@pytest.mark.parametrize("n", [0, 1, 5, 8])
def test_the_number_of_images_changes_no_feature(n):
    program, images = write(build_toy()), draw_images(8)
    np.testing.assert_allclose(compute(program, images[:n]), compute(program, images)[:n], rtol=1e-5)


def test_a_runner_gives_the_features_of_each_batch_in_turn():
    backbone, images = build_toy(), draw_images(5)
    features = list(build_runner(backbone, precision="float32")([images[:2], images[2:4], images[4:]]))
    assert [len(batch) for batch in features] == [2, 2, 1]
    assert to_deviation(np.concatenate(features), backbone, images) < 1e-6


def test_the_form_for_accelerators_gives_the_same_features():
    backbone, images = build_toy(), draw_images(4)
    assert to_deviation(compute(write(backbone, platform="gpu"), images), backbone, images) < 1e-6


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [3, 5, (1, 7), (7, 1), (1, 3)])
def test_large_convolutions_run_by_minimal_filtering(size, padding):
    middle = keras.layers.Conv2D(48, 1, kernel_initializer=keras.initializers.RandomNormal(seed=1))
    large = keras.layers.Conv2D(5, size, padding=padding, bias_initializer="ones", activation="relu")
    backbone, images = build_chain(middle, large, size=23), draw_images(3)
    program = write(backbone, platform="cpu")
    assert len(steps_of(program, Filtered)) == 1
    assert to_deviation(compute(program, images), backbone, images) < 2e-6


@pytest.mark.parametrize(("platform", "precision"), [("gpu", "float32"), ("cpu", "bfloat16")])
def test_minimal_filtering_is_for_float32_on_cpus(platform, precision):
    backbone = build_chain(keras.layers.Conv2D(48, 1), keras.layers.Conv2D(5, 3), size=23)
    program = write(backbone, precision, platform)
    assert steps_of(program, Direct) and not steps_of(program, Filtered)


def test_bfloat16_gives_nearly_the_same_features():
    backbone, images = build_toy(), draw_images(2)
    features = compute(write(backbone, "bfloat16"), images)
    assert features.dtype == np.float32
    assert 0 < to_deviation(features, backbone, images) < 0.05


def test_pointwise_convolutions_of_one_input_become_one_product():
    (product,) = steps_of(write(build_toy()), Product)
    pools = {convolution.name: pool and pool.name for convolution, pool in product.parts}
    assert len(pools) == 4
    assert {"one": None, "two": None, "behind_pool": "pool"}.items() <= pools.items()
    assert "pool" not in [step.name for step in write(build_toy()).steps]


def test_average_pooling_with_two_kinds_of_users_stays_in_its_place():
    pool = keras.layers.AveragePooling2D(3, strides=1, padding="same", name="pool")
    users = keras.layers.Conv2D(4, 1), keras.layers.Conv2D(4, 3, padding="same")
    backbone, images = build_fork(pool, *users), draw_images(2, 9)
    program = write(backbone)
    assert "pool" in [step.name for step in program.steps]
    assert to_deviation(compute(program, images), backbone, images) < 1e-6


def test_the_compiler_knows_the_option_that_makes_it_fast():
    assert choose_cpu_options()


def test_an_unknown_compiler_option_is_left_out(monkeypatch):
    monkeypatch.setattr("pneumo_keras.engines.jax_program.CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    assert choose_cpu_options() == {}


@pytest.mark.slow
def test_the_real_network_keeps_its_features():
    app = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(75, 75, 3))
    backbone = randomise(build_backbone(app, [f"mixed{i}" for i in range(11)]))
    images = draw_images(2, 75)
    program = write(backbone)
    assert to_deviation(compute(program, images), backbone, images) < 1e-5
    assert len(steps_of(program, Product)) == 12


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(
    not (WEIGHTS.exists() and IMAGES.exists()), reason="needs the weights and images of ../shared"
)
def test_pretrained_features_of_real_images_deviate_by_less_than_one_in_a_million():
    app = keras.applications.InceptionV3(include_top=False, weights=WEIGHTS, input_shape=(150, 150, 3))
    backbone = build_backbone(app, ["mixed2", "mixed4", "mixed7"])
    with np.load(IMAGES) as images:
        grey = images["test_images"][:2].astype("float32")[..., None] / 127.5 - 1
    arrays = np.repeat(np.asarray(keras.ops.image.resize(grey, (150, 150))), 3, axis=-1)
    assert to_deviation(compute(write(backbone), arrays), backbone, arrays) < 1e-6
