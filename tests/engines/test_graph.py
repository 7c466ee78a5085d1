import keras
import numpy as np
import pytest

from pneumo_keras.engines import graph as graph_module
from pneumo_keras.engines.graph import (
    IMAGES,
    AveragePooling,
    Concatenation,
    Convolution,
    MaxPooling,
    PixelMean,
    Window,
    read_graph,
)
from pneumo_keras.errors import ModelError
from tests.engines.toys import build_chain, build_fork, build_toy, randomise


def steps_of(graph, kind):
    return [step for step in graph.steps if isinstance(step, kind)]


def test_a_backbone_is_read_into_steps_that_can_run_in_their_order():
    graph = read_graph(build_toy())
    kinds = (Convolution, MaxPooling, AveragePooling, PixelMean, Concatenation)
    assert [len(steps_of(graph, kind)) for kind in kinds] == [10, 1, 1, 2, 3]
    made = {IMAGES}
    for step in graph.steps:
        assert made.issuperset(step.sources)
        made.add(step.name)
    assert graph.output == graph.steps[-1].name
    assert (graph.image_shape, graph.d) == ((23, 23, 3), 15 + 19)


def test_windows_and_extents_are_those_of_the_layers():
    first, second, *_ = steps_of(read_graph(build_toy()), Convolution)
    assert (first.window, first.extent) == (Window((3, 3), (2, 2), "VALID"), (11, 11))
    assert (second.channels, second.filters) == (4, 5)
    (pool,) = steps_of(read_graph(build_toy()), AveragePooling)
    assert pool.window == Window((3, 3), (1, 1), "SAME")


def test_layers_above_the_highest_feature_layer_are_left_out():
    names = [step.name for step in read_graph(build_toy()).steps]
    assert "behind_pool" in names
    assert "above_the_feature_layers" not in names


def test_batch_norm_is_folded_as_worked_by_hand():
    convolution, norm = keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization(epsilon=0.25)
    backbone = build_chain(convolution, norm, keras.layers.Activation("relu"))
    convolution.set_weights([np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1), np.array([10.0])])
    gamma, beta, mean, variance = 3.0, 0.5, 4.0, 2.0
    norm.set_weights([np.array([value]) for value in (gamma, beta, mean, variance)])
    (step,) = steps_of(read_graph(backbone), Convolution)
    kernel, bias = step.fold()
    assert kernel.dtype == bias.dtype == np.float64
    np.testing.assert_allclose(kernel.ravel(), [2, 4, 6])  # 3 / sqrt(2.25) = 2
    np.testing.assert_allclose(bias, [12.5])  # (10 - 4) * 2 + 0.5
    assert step.relu


def test_reading_touches_no_number(monkeypatch):
    backbone = build_toy()
    monkeypatch.setattr(graph_module, "to_float64", None)
    assert read_graph(backbone).steps


def test_reading_leaves_the_backbone_as_it_was():
    backbone = build_toy()
    before = [weight.copy() for weight in backbone.get_weights()]
    for step in steps_of(read_graph(backbone), Convolution):
        step.fold()
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_two_batch_norms_fold_into_one_convolution():
    layers = [
        keras.layers.Conv2D(4, 3),
        keras.layers.BatchNormalization(),
        keras.layers.BatchNormalization(),
    ]
    (step,) = steps_of(read_graph(randomise(build_chain(*layers))), Convolution)
    assert len(step.normalizations) == 2


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
            [keras.layers.BatchNormalization(name="bn")],
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
    with pytest.raises(ModelError, match="Cannot rewrite the backbone") as caught:
        read_graph(build_chain(*layers))
    assert message in str(caught.value)


def test_a_trainable_batch_norm_is_refused():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(name="bn")]
    with pytest.raises(ModelError, match=r"'bn' is trainable; set backbone.trainable = False first"):
        read_graph(build_chain(*layers, trainable=True))


def test_a_layer_that_is_called_twice_is_refused():
    shared = keras.layers.Conv2D(3, 3, padding="same")
    last = keras.layers.MaxPooling2D(2, name="last")
    with pytest.raises(ModelError, match="'last' takes its input from a layer that is called more than once"):
        read_graph(build_chain(shared, shared, last))


@pytest.mark.parametrize("follower", [keras.layers.BatchNormalization, keras.layers.ReLU, None])
def test_a_convolution_with_two_users_is_not_folded(follower):
    layer = keras.layers.Activation("relu", name="last") if follower is None else follower(name="last")
    message = "must follow a convolution that feeds nothing else" if follower is not keras.layers.ReLU else ""
    with pytest.raises(ModelError, match=f"'last' {message}"):
        read_graph(build_fork(keras.layers.Conv2D(4, 3), layer, None))


def test_concatenation_over_pixels_is_refused():
    images = keras.Input((9, 9, 3))
    joined = keras.layers.Concatenate(axis=1, name="join")([images, images])
    backbone = keras.Model(images, keras.layers.GlobalAveragePooling2D()(joined))
    with pytest.raises(ModelError, match=r"'join' must join the channels. Received: axis=1"):
        read_graph(backbone)


def test_a_mean_that_keeps_its_axes_is_refused():
    images = keras.Input((9, 9, 3))
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name="mean")(images)
    with pytest.raises(ModelError, match=r"'mean' must drop height and width. Received: keepdims=True"):
        read_graph(keras.Model(images, keras.layers.GlobalAveragePooling2D()(mean)))


def test_a_backbone_that_ends_in_maps_is_refused():
    images = keras.Input((9, 9, 3))
    with pytest.raises(ModelError, match=r"must end in features \(n, d\). Received: \(None, 7, 7, 4\)"):
        read_graph(keras.Model(images, keras.layers.Conv2D(4, 3)(images)))


def test_a_model_without_a_functional_graph_is_refused():
    model = keras.Sequential([keras.layers.Conv2D(3, 3)], name="chain")
    with pytest.raises(ModelError, match=r"Only a functional graph .* Received: Sequential 'chain'"):
        read_graph(model)


@pytest.mark.parametrize("damage", ["NaN in a kernel", "infinity in a mean", "negative variance"])
def test_weights_that_are_no_numbers_are_refused(damage):
    backbone = build_toy()
    first, *_ = steps_of(read_graph(backbone), Convolution)
    (norm,) = first.normalizations
    variable, value = {
        "NaN in a kernel": (first.layer.kernel, np.nan),
        "infinity in a mean": (norm.moving_mean, np.inf),
        "negative variance": (norm.moving_variance, -1.0),
    }[damage]
    values = keras.ops.convert_to_numpy(variable).copy()
    values.flat[-1] = value
    variable.assign(values)
    with pytest.raises(ModelError) as caught:
        first.fold()
    assert str(caught.value) == (
        f"Cannot rewrite the backbone: Conv2D '{first.name}' must have finite weights and variances of at "
        "least 0"
    )
