import pathlib

import keras
import numpy as np
import pytest

from pneumo_keras.engines.jax_program import (
    Convolution,
    FilteredConvolution,
    Product,
    choose_cpu_options,
    freeze,
)
from pneumo_keras.errors import ModelError

SHARED = pathlib.Path(__file__).parents[2] / ".." / "shared"
WEIGHTS = SHARED / "weights" / "inception_v3_notop.weights.h5"
FILMS = SHARED / "data" / "pneumoniamnist.npz"


def conv(x, filters, size, *, strides=1, padding="same", name=None):
    x = keras.layers.Conv2D(filters, size, strides=strides, padding=padding, use_bias=False, name=name)(x)
    x = keras.layers.BatchNormalization(scale=False)(x)
    return keras.layers.Activation("relu")(x)


def randomise(model, seed=0):
    """Statistics that a fold cannot get right by chance."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = {v.path.split("/")[-1]: rng.normal(0, 0.2, v.shape) for v in layer.weights}
            values["moving_variance"] = rng.uniform(0.5, 2, layer.moving_variance.shape)
            layer.set_weights([values[v.path.split("/")[-1]] for v in layer.weights])
    model.trainable = False
    return model


def build_toy(taps=("mixed_a", "mixed_b"), size=23):
    """InceptionV3 in small: a VALID stem, a block of four branches, a block that halves."""
    images = keras.Input((size, size, 3))
    x = conv(images, 4, 3, strides=2, padding="valid")
    x = conv(x, 5, 3, padding="valid")
    x = conv(x, 6, (3, 3))
    pooled = keras.layers.AveragePooling2D((3, 3), strides=(1, 1), padding="same", name="pool")(x)
    branches = [
        conv(x, 3, 1, name="one"),
        conv(conv(x, 4, 1, name="two"), 5, (1, 7)),
        conv(conv(x, 2, 1), 4, (5, 5)),
        conv(pooled, 3, 1, name="behind_pool"),
    ]
    x = keras.layers.Concatenate(name="mixed_a")(branches)
    halves = [
        conv(x, 4, 3, strides=2, padding="valid"),
        keras.layers.MaxPooling2D((3, 3), strides=(2, 2))(x),
    ]
    x = keras.layers.Concatenate(axis=3, name="mixed_b")(halves)
    app = keras.Model(images, conv(x, 7, 3, name="above_the_taps"))
    return randomise(build_backbone(app, taps))


def build_backbone(app, taps):
    pooled = [keras.layers.GlobalAveragePooling2D()(app.get_layer(tap).output) for tap in taps]
    features = pooled[0] if len(pooled) == 1 else keras.layers.Concatenate()(pooled)
    backbone = keras.Model(app.input, features, name="backbone")
    backbone.trainable = False
    return backbone


def build_graph(*layers, size=9, trainable=False):
    """A chain of layers, pooled."""
    x = images = keras.Input((size, size, 3))
    for layer in layers:
        x = layer(x)
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    model.trainable = trainable
    return model


def draw_images(n, size=23):
    return np.random.default_rng(1).uniform(-1, 1, (n, size, size, 3)).astype("float32")


def to_deviation(features, backbone, images):
    stock = np.asarray(backbone(images, training=False))
    assert features.shape == stock.shape
    return np.abs(features - stock).max() / np.abs(stock).max()


def steps_of(network, kind):
    return [step for step in network.steps if isinstance(step, kind)]


@pytest.mark.parametrize("taps", [("mixed_a",), ("mixed_b",), ("mixed_b", "mixed_a")])
def test_features_are_those_of_keras(taps):
    backbone, images = build_toy(taps), draw_images(3)
    assert to_deviation(freeze(backbone).extract(images), backbone, images) < 1e-6


@pytest.mark.parametrize("n", [0, 1, 5, 8])
def test_the_number_of_images_changes_no_feature(n):
    network, images = freeze(build_toy()), draw_images(8)
    np.testing.assert_allclose(network.extract(images[:n]), network.extract(images)[:n], rtol=1e-5)


def test_the_form_for_accelerators_gives_the_same_features():
    backbone, images = build_toy(), draw_images(4)
    network = freeze(backbone, platform="gpu")
    assert to_deviation(network.extract(images), backbone, images) < 1e-6


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [3, 5, (1, 7), (7, 1), (1, 3)])
def test_large_convolutions_run_by_minimal_filtering(size, padding):
    middle = keras.layers.Conv2D(48, 1, kernel_initializer=keras.initializers.RandomNormal(seed=1))
    large = keras.layers.Conv2D(5, size, padding=padding, bias_initializer="ones", activation="relu")
    backbone, images = build_graph(middle, large, size=23), draw_images(3)
    network = freeze(backbone, platform="cpu")
    assert len(steps_of(network, FilteredConvolution)) == 1
    assert to_deviation(network.extract(images), backbone, images) < 2e-6


@pytest.mark.parametrize(
    ("channels", "strides", "size", "platform"),
    [(47, 1, 23, "cpu"), (48, 2, 40, "cpu"), (48, 1, 15, "cpu"), (48, 1, 23, "gpu")],
)
def test_small_strided_and_accelerated_convolutions_run_as_they_are(channels, strides, size, platform):
    layers = [keras.layers.Conv2D(channels, 1), keras.layers.Conv2D(5, 3, strides=strides, padding="same")]
    network = freeze(build_graph(*layers, size=size), platform=platform)
    assert steps_of(network, Convolution)
    assert not steps_of(network, FilteredConvolution)


def test_bfloat16_gives_nearly_the_same_features():
    backbone, images = build_toy(), draw_images(2)
    features = freeze(backbone, precision="bfloat16").extract(images)
    assert features.dtype == np.float32
    assert 0 < to_deviation(features, backbone, images) < 0.05


def test_pointwise_convolutions_of_one_input_become_one_product():
    (product,) = steps_of(freeze(build_toy()), Product)
    assert len(product.parts) == 4
    assert {"one", "two", "behind_pool"} < {part.name for part in product.parts}
    assert [part.name for part in product.parts if part.pool] == ["behind_pool"]


def test_layers_above_the_highest_tap_are_left_out():
    names = [step.name for step in freeze(build_toy()).steps]
    assert names
    assert "above_the_taps" not in names


def test_average_pooling_before_other_layers_stays_in_its_place():
    backbone = build_graph(
        keras.layers.AveragePooling2D(3, strides=2, padding="same"), keras.layers.Conv2D(4, 3)
    )
    images = draw_images(2, 9)
    assert to_deviation(freeze(backbone).extract(images), backbone, images) < 1e-6


def test_the_padding_of_max_pooling_never_wins():
    backbone = build_graph(
        keras.layers.Conv2D(4, 1, bias_initializer=keras.initializers.Constant(-9)),
        keras.layers.MaxPooling2D(3, strides=2, padding="same"),
    )
    images = draw_images(2, 9)
    assert to_deviation(freeze(backbone).extract(images), backbone, images) < 1e-6


def test_average_pooling_with_two_kinds_of_users_stays_in_its_place():
    images = keras.Input((9, 9, 3))
    pooled = keras.layers.AveragePooling2D(3, strides=1, padding="same", name="pool")(images)
    both = [keras.layers.Conv2D(4, 1)(pooled), keras.layers.Conv2D(4, 3, padding="same")(pooled)]
    backbone = build_backbone(keras.Model(images, keras.layers.Concatenate(name="join")(both)), ["join"])
    network, films = freeze(backbone), draw_images(2, 9)
    assert "pool" in [step.name for step in network.steps]
    assert to_deviation(network.extract(films), backbone, films) < 1e-6


def test_batch_norm_with_a_scale_and_convolution_with_a_bias_are_folded():
    bias = keras.initializers.RandomNormal(seed=1)
    backbone = build_graph(
        keras.layers.Conv2D(4, 3, bias_initializer=bias, padding="same"),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(4, 3, bias_initializer=bias, activation="relu"),
    )
    images = draw_images(2, 9)
    randomise(backbone)
    network = freeze(backbone)
    assert len(steps_of(network, Convolution)) == 2
    assert to_deviation(network.extract(images), backbone, images) < 1e-6


def test_freezing_leaves_the_backbone_as_it_was():
    backbone = build_toy()
    before = [weight.copy() for weight in backbone.get_weights()]
    freeze(backbone).extract(draw_images(1))
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([keras.layers.Dropout(0.5, name="drop")], "Dropout 'drop' has no exact rewriting"),
        ([keras.layers.Conv2D(3, 3, groups=3, name="c")], "Conv2D 'c' must be neither grouped nor dilated"),
        ([keras.layers.Conv2D(3, 3, dilation_rate=2, name="c")], "must be neither grouped nor dilated"),
        ([keras.layers.Conv2D(3, 3, activation="tanh")], "must have no activation but relu. Received: tanh"),
        ([keras.layers.Conv2D(3, 3, dtype="mixed_bfloat16")], "must compute in float32. Received: bfloat16"),
        (
            [keras.layers.MaxPooling2D(2), keras.layers.BatchNormalization(name="bn")],
            "BatchNormalization 'bn' must follow a convolution that feeds nothing else",
        ),
        (
            [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(axis=1)],
            "must normalise the channels. Received: 1",
        ),
        (
            [
                keras.layers.Conv2D(4, 3),
                keras.layers.Activation("relu"),
                keras.layers.BatchNormalization(name="bn"),
            ],
            "BatchNormalization 'bn' must follow a convolution that feeds nothing else",
        ),
        ([keras.layers.Activation("relu", name="act")], "Activation 'act' must follow a convolution"),
        ([keras.layers.Conv2D(4, 3), keras.layers.Activation("tanh")], "must be relu. Received: tanh"),
        (
            [keras.layers.MaxPooling2D(2, data_format="channels_first")],
            "must hold its channels last. Received: channels_first",
        ),
    ],
)
def test_a_layer_that_is_not_understood_is_refused(layers, message):
    with pytest.raises(ModelError, match="Cannot freeze the backbone") as caught:
        freeze(build_graph(*layers))
    assert message in str(caught.value)


def test_a_trainable_batch_norm_is_refused():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(name="bn")]
    with pytest.raises(ModelError, match=r"'bn' is trainable; set backbone.trainable = False first"):
        freeze(build_graph(*layers, trainable=True))


def test_a_layer_that_is_called_twice_is_refused():
    shared = keras.layers.Conv2D(3, 3, padding="same")
    last = keras.layers.MaxPooling2D(2, name="last")
    with pytest.raises(ModelError, match="'last' takes its input from a layer that is called more than once"):
        freeze(build_graph(shared, shared, last))


def test_a_convolution_with_two_users_is_not_folded():
    images = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(4, 3)(images)
    both = [keras.layers.BatchNormalization(name="bn")(x), x]
    backbone = build_backbone(keras.Model(images, keras.layers.Concatenate(name="join")(both)), ["join"])
    with pytest.raises(ModelError, match="'bn' must follow a convolution that feeds nothing else"):
        freeze(backbone)


def test_concatenation_over_pixels_is_refused():
    images = keras.Input((9, 9, 3))
    joined = keras.layers.Concatenate(axis=1, name="join")([images, images])
    with pytest.raises(ModelError, match=r"'join' must join the channels. Received: axis=1"):
        freeze(build_backbone(keras.Model(images, joined), ["join"]))


def test_a_mean_that_keeps_its_axes_is_refused():
    images = keras.Input((9, 9, 3))
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name="mean")(images)
    with pytest.raises(ModelError, match=r"'mean' must drop height and width. Received: keepdims=True"):
        freeze(keras.Model(images, mean))


def test_a_model_without_a_functional_graph_is_refused():
    model = keras.Sequential([keras.layers.Conv2D(3, 3)], name="chain")
    with pytest.raises(ModelError, match=r"Only a functional graph .* Received: Sequential 'chain'"):
        freeze(model)


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
    network = freeze(backbone)
    assert to_deviation(network.extract(images), backbone, images) < 1e-5
    assert len(steps_of(network, Product)) == 12


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(
    not (WEIGHTS.exists() and FILMS.exists()), reason="needs the weights and films of ../shared"
)
def test_pretrained_features_of_real_films_deviate_by_less_than_one_in_a_hundred_thousand():
    app = keras.applications.InceptionV3(include_top=False, weights=WEIGHTS, input_shape=(150, 150, 3))
    backbone = build_backbone(app, ["mixed4", "mixed10"])
    with np.load(FILMS) as films:
        grey = films["test_images"][:2].astype("float32")[..., None] / 127.5 - 1
    images = np.repeat(np.asarray(keras.ops.image.resize(grey, (150, 150))), 3, axis=-1)
    assert to_deviation(freeze(backbone).extract(images), backbone, images) < 1e-5
