import sys

import keras
import numpy as np
import pytest

from pneumo_keras.engines.openvino import build_openvino_network
from pneumo_keras.errors import BackendError, ModelError

openvino = pytest.importorskip("openvino")

SIZE = 17


def build_toy() -> keras.Model:
    """Every kind of layer that InceptionV3 has, with moments that BatchNorm must use."""
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False)(images)
    x = keras.layers.BatchNormalization(scale=False)(x)
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.Conv2D(6, (1, 3), padding="same", activation="relu")(x)
    pooled = keras.layers.AveragePooling2D(3, strides=1, padding="same")(x)
    shrunk = keras.layers.MaxPooling2D(3, strides=2)(keras.layers.Concatenate()([x, pooled]))
    taps = [keras.layers.GlobalAveragePooling2D()(tap) for tap in (x, pooled, shrunk)]
    backbone = keras.Model(images, keras.layers.Concatenate()(taps), name="backbone")
    generator = np.random.default_rng(0)
    for variable in backbone.variables:
        variable.assign(generator.uniform(0.1, 0.9, variable.shape) - 0.3 * (variable.ndim == 4))
    backbone.trainable = False
    return backbone


def build_images(n: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (n, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def toy() -> keras.Model:
    return build_toy()


@pytest.fixture(scope="module")
def network(toy):
    return build_openvino_network(toy)


def to_deviation(features: np.ndarray, expected: np.ndarray) -> float:
    return np.abs(features - expected).max() / np.abs(expected).max()


def test_features_are_those_of_keras(toy, network):
    images = build_images(5)
    features = network(images)
    assert features.dtype == np.float32
    assert to_deviation(features, toy.predict_on_batch(images)) < 1e-5


def test_the_stream_keeps_the_order_over_uneven_batches(network):
    images = build_images(60)
    batches = np.split(images, [0, 1, 1, 20, 45, 60])
    features = list(network.stream(iter(batches)))
    assert [len(batch) for batch in features] == [0, 1, 0, 19, 25, 15, 0]
    np.testing.assert_array_equal(np.concatenate(features), network(images))


def test_an_image_has_the_same_bytes_of_features_in_any_company(network):
    images = build_images(40)
    together = network(images)
    alone = np.concatenate([network(images[i : i + 1]) for i in range(40)])
    assert together.tobytes() == alone.tobytes()


def test_the_stream_takes_few_batches_ahead(network):
    taken = []

    def prepare():
        for step in range(100):
            taken.append(step)
            yield build_images(8)

    stream = network.stream(prepare())
    next(stream)
    assert len(taken) < 50
    stream.close()


def test_the_caller_may_reuse_its_array(network):
    images = build_images(30)

    def prepare():
        batch = np.empty_like(images[:3])
        for first in range(0, 30, 3):
            batch[:] = images[first : first + 3]
            yield batch

    features = np.concatenate(list(network.stream(prepare())))
    np.testing.assert_array_equal(features, network(images))


def test_an_error_of_the_caller_comes_through(network):
    def prepare():
        yield build_images(2)
        raise OSError("film missing")

    with pytest.raises(OSError, match="film missing"):
        list(network.stream(prepare()))


def test_bfloat16_is_close_or_refused(toy):
    images = build_images(5)
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        features = build_openvino_network(toy, precision="bfloat16")(images)
        assert 0 < to_deviation(features, toy.predict_on_batch(images)) < 0.05
    else:
        with pytest.raises(BackendError, match="no bfloat16 arithmetic in this CPU"):
            build_openvino_network(toy, precision="bfloat16")


def test_a_missing_package_is_named_with_its_cure(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError) as caught:
        build_openvino_network(toy)
    assert str(caught.value) == (
        "The engine 'openvino' needs the package openvino. "
        "Install it with: uv sync --extra openvino, or pip install openvino"
    )


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            keras.layers.LayerNormalization(name="odd"),
            r"\(LayerNormalization\), a kind it does not",
        ),
        (keras.layers.Activation("tanh", name="odd"), "whose activation is not ReLU"),
        (keras.layers.Conv2D(3, 3, groups=3, name="odd"), "which has groups"),
        (keras.layers.BatchNormalization(axis=1, name="odd"), "along another axis"),
        (keras.layers.MaxPooling2D(data_format="channels_first", name="odd"), "channels first"),
    ],
)
def test_a_layer_it_cannot_run_is_named(layer, reason):
    images = keras.Input((SIZE, SIZE, 3))
    with pytest.raises(ModelError, match=f"layer 'odd' .*{reason}.* Choose the engine 'keras'"):
        build_openvino_network(keras.Model(images, layer(images)))


def test_a_layer_used_twice_is_refused():
    images = keras.Input((SIZE, SIZE, 3))
    twice = keras.layers.Conv2D(3, 3, padding="same")
    after = keras.layers.GlobalAveragePooling2D(name="after")
    with pytest.raises(ModelError, match=r"layer 'after' .*after a layer that is used more than"):
        build_openvino_network(keras.Model(images, after(twice(twice(images)))))
