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
    assert "behind_pool" in made and "above_the_feature_layers" not in made


def test_windows_are_those_of_the_layers():
    graph = read_graph(build_toy())
    assert steps_of(graph, Convolution)[0].window == Window((3, 3), (2, 2), "VALID")
    assert steps_of(graph, AveragePooling)[0].window == Window((3, 3), (1, 1), "SAME")


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


def test_two_batch_norms_fold_into_one_convolution():
    norms = [keras.layers.BatchNormalization() for _ in range(2)]
    (step,) = steps_of(read_graph(randomise(build_chain(keras.layers.Conv2D(4, 3), *norms))), Convolution)
    assert len(step.normalizations) == 2


ODD = {"name": "odd"}


@pytest.mark.parametrize(
    "layers",
    [
        [keras.layers.Dropout(0.5, **ODD)],
        [keras.layers.DepthwiseConv2D(3, **ODD)],
        [keras.layers.Conv2D(3, 3, groups=3, **ODD)],
        [keras.layers.Conv2D(3, 3, dilation_rate=2, **ODD)],
        [keras.layers.Conv2D(3, 3, activation="tanh", **ODD)],
        [keras.layers.Conv2D(3, 3, dtype="mixed_bfloat16", **ODD)],
        [keras.layers.MaxPooling2D(2), keras.layers.BatchNormalization(**ODD)],
        [keras.layers.BatchNormalization(**ODD)],
        [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(axis=1, **ODD)],
        [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.BatchNormalization(**ODD)],
        [keras.layers.Activation("relu", **ODD)],
        [keras.layers.Conv2D(4, 3), keras.layers.Activation("tanh", **ODD)],
        [keras.layers.MaxPooling2D(2, data_format="channels_first", **ODD)],
        [keras.layers.GlobalAveragePooling2D(keepdims=True, **ODD)],
    ],
)
def test_a_layer_that_has_no_exact_rewriting_is_refused_with_a_way_out(layers):
    with pytest.raises(ModelError) as caught:
        read_graph(build_chain(*layers))
    assert str(caught.value) == (
        f"The backbone's layer {type(layers[-1]).__name__} 'odd' has no exact rewriting; "
        "compute.engine=keras runs it"
    )


def test_a_trainable_batch_norm_is_refused():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(**ODD)]
    with pytest.raises(ModelError, match="BatchNormalization 'odd'"):
        read_graph(build_chain(*layers, trainable=True))


def test_a_layer_that_is_called_twice_is_refused():
    shared = keras.layers.Conv2D(3, 3, padding="same")
    with pytest.raises(ModelError, match="MaxPooling2D 'odd'"):
        read_graph(build_chain(shared, shared, keras.layers.MaxPooling2D(2, **ODD)))


@pytest.mark.parametrize(
    "layer", [keras.layers.BatchNormalization(**ODD), keras.layers.Activation("relu", **ODD)]
)
def test_a_convolution_with_two_users_is_not_folded(layer):
    with pytest.raises(ModelError, match="'odd'"):
        read_graph(build_fork(keras.layers.Conv2D(4, 3), layer, None))


def test_concatenation_over_pixels_and_flattening_of_features_are_refused():
    images = keras.Input((9, 9, 3))
    joined = keras.layers.Concatenate(axis=1, **ODD)([images, images])
    with pytest.raises(ModelError, match="Concatenate 'odd'"):
        read_graph(keras.Model(images, keras.layers.GlobalAveragePooling2D()(joined)))
    flat = keras.layers.Flatten(**ODD)(keras.layers.GlobalAveragePooling2D()(images))
    with pytest.raises(ModelError, match="Flatten 'odd'"):
        read_graph(keras.Model(images, flat))


@pytest.mark.parametrize("damage", ["NaN in a kernel", "infinity in a mean", "negative variance"])
def test_weights_that_are_not_finite_are_refused(damage):
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
    with pytest.raises(ModelError, match=f"The weights of '{first.name}' must be finite"):
        first.fold()
