import keras
import numpy as np
import pytest

from pneumo_keras.engines.graph import read_graph
from pneumo_keras.runtime.backend import import_openvino
from tests.engines.toys import CHAINS, build_chain, build_toy, draw_images, randomise, to_deviation

onnx = pytest.importorskip("onnx")

from pneumo_keras.engines.onnx import write_onnx  # noqa: E402


def run_openvino(model, images):
    core = import_openvino().Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    (features,) = core.compile_model(core.read_model(model), "CPU", settings)(images).values()
    return features


def run_onnxruntime(model, images):
    session = pytest.importorskip("onnxruntime").InferenceSession(model, providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {"images": images})
    return features


RUNTIMES = [run_openvino, run_onnxruntime]


@pytest.mark.parametrize("run", RUNTIMES)
@pytest.mark.parametrize("n", [1, 4])
def test_features_are_those_of_keras_for_any_number_of_images(run, n):
    backbone, images = build_toy(), draw_images(n)
    assert to_deviation(run(write_onnx(read_graph(backbone)), images), backbone, images) < 1e-6


@pytest.mark.parametrize("run", RUNTIMES)
@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_single_layers_give_what_keras_gives(run, layers):
    backbone, images = randomise(build_chain(*layers())), draw_images(2, 9)
    assert to_deviation(run(write_onnx(read_graph(backbone)), images), backbone, images) < 1e-6


def test_the_model_is_a_valid_one_and_its_shapes_follow():
    model = onnx.load_from_string(write_onnx(read_graph(build_toy())))
    onnx.checker.check_model(model, full_check=True)


def test_input_and_output_are_named_and_open_in_the_number_of_images():
    graph = onnx.load_from_string(write_onnx(read_graph(build_toy()))).graph
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"images": ["n", 23, 23, 3], "features": ["n", 34]}
    types = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert types == {onnx.TensorProto.FLOAT}


def test_a_layer_called_images_or_features_disturbs_nothing():
    layers = [keras.layers.Conv2D(3, 1, name="features"), keras.layers.Conv2D(3, 1, name="x")]
    backbone, images = build_chain(*layers), draw_images(2, 9)
    assert to_deviation(run_openvino(write_onnx(read_graph(backbone)), images), backbone, images) < 1e-6


def test_the_same_backbone_gives_the_same_bytes():
    backbone = build_toy()
    assert write_onnx(read_graph(backbone)) == write_onnx(read_graph(backbone))


def test_numbers_are_written_as_float32():
    graph = onnx.load_from_string(write_onnx(read_graph(build_toy()))).graph
    arrays = [onnx.numpy_helper.to_array(constant) for constant in graph.initializer]
    assert {array.dtype for array in arrays if array.ndim != 1 or array.size != 2} == {np.dtype("float32")}
