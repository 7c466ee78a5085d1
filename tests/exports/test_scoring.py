"""Every form, run by its own runtime, gives Keras' scores."""

import itertools
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

import pneumo_keras
from pneumo_keras import BACKEND
from pneumo_keras.exports.forms import FORMS
from pneumo_keras.exports.onnx import to_onnx
from pneumo_keras.runtime.backend import import_openvino
from tests.exports.classifiers import SIZES, build_classifier, draw_images, score, to_difference

HEADS = [
    dict(zip(("members", "outputs", "hidden_units", "standardise", "flip_average"), values, strict=True))
    for values in itertools.product((1, 3), (1, 2), (0, 5), (False, True), (False, True))
]
# Heads are read, but for StableHLO, which JAX traces.
READ = [("onnx", head) for head in HEADS]
TRACED = [("stablehlo", HEADS[0]), ("stablehlo", HEADS[-1])]


def name_case(value):
    return value if isinstance(value, str) else "-".join(str(int(one)) for one in value.values())


@pytest.fixture(params=FORMS)
def form(request):
    form = FORMS[request.param]
    if form.backend not in (None, BACKEND):
        pytest.skip(f"needs KERAS_BACKEND={form.backend}")
    return form


@pytest.fixture
def export(form, tmp_path):
    """Writes a classifier and loads it again, on the form's runtime."""

    def run(classifier):
        path = tmp_path / f"model{form.ending}"
        form.load_module().write_classifier(classifier, path)
        assert [file.name for file in tmp_path.iterdir()] == [path.name]
        return form.load_module().load_scoring(path)

    return run


@pytest.mark.parametrize(("form", "head"), [*READ, *TRACED], indirect=["form"], ids=name_case)
def test_scores_are_those_of_keras_whatever_the_head(export, head):
    classifier = build_classifier(**head)
    assert to_difference(export(classifier), classifier, draw_images(28, 28)) < 1e-5


def test_scores_are_those_of_keras_for_any_number_of_images_of_any_size(export):
    classifier = build_classifier(flip_average=True)
    scoring = export(classifier)
    for n, (height, width) in zip((1, 3, 2, 1), SIZES, strict=True):
        images = draw_images(height, width, n)
        assert scoring(images).shape == (n, 1)
        assert to_difference(scoring, classifier, images) < 1e-5


@pytest.mark.parametrize("data_size", [12, 16], ids=["smaller", "as large"])
def test_scores_are_those_of_keras_with_training_images_no_larger_than_the_network_s_images(
    export, data_size
):
    classifier = build_classifier(data_size=data_size)
    assert to_difference(export(classifier), classifier, draw_images(40, 31)) < 1e-5


def test_scores_differ_from_image_to_image(export):
    """Or agreement would mean nothing."""
    scores = export(build_classifier())(draw_images(28, 28, 8))
    assert scores.dtype == np.float32
    assert np.ptp(scores) > 0.1


def test_scores_depend_on_the_first_resizing():
    """As above."""
    classifier = build_classifier()
    images = draw_images(93, 93)
    shrunk = keras.ops.image.resize(images, (28, 28), interpolation="bicubic", antialias=True)
    assert np.abs(score(classifier, images) - score(classifier, shrunk)).max() > 1e-3


def test_openvino_scores_the_onnx_file_as_keras_does(tmp_path):
    classifier = build_classifier(members=2, hidden_units=4, flip_average=True)
    path = tmp_path / "model.onnx"
    FORMS["onnx"].load_module().write_classifier(classifier, path)
    compiled = import_openvino().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )  # see docs/export.md
    for height, width in SIZES:
        images = draw_images(height, width)
        assert to_difference(lambda images: compiled(images)[0], classifier, images) < 1e-5


def test_the_onnx_model_is_valid_and_its_input_and_output_are_named():
    model = onnx.load_from_string(to_onnx(build_classifier(flip_average=True, hidden_units=4)))
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["n", "height", "width", 1], "probability": ["n", 1]}


def test_the_same_classifier_gives_the_same_bytes_of_onnx():
    classifier = build_classifier()
    assert to_onnx(classifier) == to_onnx(classifier)


@pytest.mark.skipif(BACKEND != "jax", reason="needs KERAS_BACKEND=jax")
def test_stablehlo_runs_without_keras(tmp_path):
    classifier, images = build_classifier(), draw_images(40, 33)
    path = tmp_path / "model.stablehlo"
    FORMS["stablehlo"].load_module().write_classifier(classifier, path)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, jax.export, numpy as np\n"
        "program = jax.export.deserialize(bytearray(open(sys.argv[1], 'rb').read()))\n"
        "assert program.platforms == ('cpu', 'cuda')\n"
        "np.save(sys.argv[3], program.call(np.load(sys.argv[2])))\n"
        "print('keras' in sys.modules)"
    )
    command = [sys.executable, "-c", code, path, tmp_path / "images.npy", tmp_path / "scores.npy"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
    assert np.abs(np.load(tmp_path / "scores.npy") - score(classifier, images)).max() < 1e-5


def test_a_file_holds_nothing_of_the_folders_in_which_it_was_written(form, tmp_path):
    path = tmp_path / f"model{form.ending}"
    form.load_module().write_classifier(build_classifier(hidden_units=4), path)
    folders = (tmp_path, Path(pneumo_keras.__file__).parent, Path(sys.prefix), Path(keras.__file__).parent)
    content = path.read_bytes()
    assert not [path for path in (*folders, ".py") if str(path).encode() in content]
