import hashlib
import json

import numpy as np
import pytest

from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.errors import ExportError
from pneumo_keras.exports import onnx
from pneumo_keras.exports.forms import FORMS, choose_files
from pneumo_keras.model.classifier import load_classifier
from pneumo_keras.model.fingerprint import compute_fingerprint
from pneumo_keras.recipes.export import export_run
from pneumo_keras.runs.run import load_run
from pneumo_keras.runtime.backend import BACKEND
from tests.small import LEARNING

pytest.importorskip("onnxruntime")


def export(folder, form="onnx", out=None):
    return export_run(load_run(folder.path), form, *choose_files(folder.path, form, out))


def list_files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def spoil_head(monkeypatch):
    """As if it had been written wrongly."""
    read = onnx.read_members

    def read_wrongly(head):
        members = read(head)
        members.layers[-1].biases[:] += 0.1
        return members

    monkeypatch.setattr(onnx, "read_members", read_wrongly)


@pytest.fixture
def folder(train):
    return train(
        "run", "training.members=2", "evaluation.calibration=platt", LEARNING, "evaluation.rule=youden"
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_written_into_the_run_with_its_sidecar_and_scores_as_the_run_does(folder, form):
    if FORMS[form].backend not in (None, BACKEND):
        pytest.skip(f"needs KERAS_BACKEND={FORMS[form].backend}")
    written = export(folder, form)
    exports = folder.path / "exports"
    file = exports / f"model{FORMS[form].ending}"
    assert {one.name for one in exports.iterdir()} == {file.name, f"model.{form}.json"}
    assert written.largest_difference < 1e-5
    about = json.loads((exports / f"model.{form}.json").read_text())
    assert about["files"] == {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    assert about["runtime"]["package"] == FORMS[form].runtime
    assert about["runtime"]["requirements"] == list(FORMS[form].requirements)
    images = PhantomImages(5, 40, 3).read(slice(None))[..., None].astype(np.float32)
    scores = FORMS[form].load_module().load_scoring(file)(images)
    stock = load_classifier(folder.path / "model.keras").join().predict_on_batch(images)
    np.testing.assert_allclose(scores, stock, atol=1e-5)


def test_the_sidecar_describes_the_use_of_the_file(folder):
    export(folder)
    about = json.loads((folder.path / "exports" / "model.onnx.json").read_text())
    run = {
        name: json.loads((folder.path / f"{name}.json").read_text())
        for name in ("environment", "operating_point", "calibration")
    }
    assert about["format_version"] == 4
    assert about["classes"] == {"0": "normal", "1": "pneumonia"}
    assert about["input"]["name"] == "images"
    assert about["input"]["shape"] == ["n", "height", "width", 1]
    assert about["input"]["range"] == [0, 255]
    assert (about["preparation"]["size"], about["preparation"]["jpeg_quality"]) == (28, None)
    assert "16 bits divided by 257" in about["preparation"]["description"]
    assert "short edge" in about["preparation"]["description"]
    assert "resize it to 28 x 28 pixels, bilinear" in about["preparation"]["description"]
    assert "JPEG" not in about["preparation"]["description"]
    assert about["inside"] == [
        {"operation": "resize", "antialias": True, "kernel": "bilinear", "height": 28, "width": 28},
        {"operation": "resize", "antialias": True, "kernel": "bilinear", "height": 75, "width": 75},
        {"operation": "scale", "slope": pytest.approx(1 / 127.5), "offset": -1},
    ]
    share = run["calibration"]["prevalence"]
    assert about["output"]["meaning"] == (f"Probability of pneumonia at a prevalence of {share:g}.")
    assert about["operating_point"].items() >= run["operating_point"].items()
    assert about["operating_point"]["description"].endswith("(Youden), chosen on validation images")
    assert about["calibration"].items() >= run["calibration"].items()
    assert about["ood_detector"]["included"] is False
    assert "does not warn when an image is out of distribution" in about["ood_detector"]["description"]
    assert about["trained_on"]["title"] == "synthetic phantoms, 28 px"
    environment = run["environment"]
    assert about["fingerprints"] == {
        "model_sha256": compute_fingerprint(load_classifier(folder.path / "model.keras").join()),
        "weights_sha256": environment["weights_sha256"],
        "images_sha256": {split: environment["images"][split]["sha256"] for split in ("train", "val")},
    }
    assert {"pneumo_keras", "keras", "onnx", "onnxruntime"} <= set(about["versions"])
    assert about["verification"]["images"] == 64
    assert about["verification"]["largest_difference"] < about["verification"]["tolerance"] == 1e-4
    assert about["verification"]["unsaturated_images"] > 0
    assert about["warning"].startswith("A research tool, not a medical device.")
    assert str(folder.path.parent) not in json.dumps(about)


def test_an_export_that_scores_otherwise_leaves_nothing(folder, monkeypatch):
    before = list_files(folder.path)
    spoil_head(monkeypatch)
    with pytest.raises(ExportError, match=r"scores on onnxruntime \S+ \S+ away from Keras"):
        export(folder)
    assert list_files(folder.path) == before


def test_nor_does_it_harm_an_older_one(folder, monkeypatch):
    export(folder)
    before = list_files(folder.path)
    spoil_head(monkeypatch)
    with pytest.raises(ExportError):
        export(folder)
    assert list_files(folder.path) == before


def test_an_export_replaces_an_older_one(folder):
    export(folder)
    sidecar = folder.path / "exports" / "model.onnx.json"
    sidecar.write_text("old")
    (folder.path / "exports" / "model.onnx").write_text("old")
    export(folder)
    assert json.loads(sidecar.read_text())["files"]["model.onnx"] != hashlib.sha256(b"old").hexdigest()


def test_a_run_is_exported_elsewhere(folder, tmp_path):
    before = list_files(folder.path)
    export(folder, out=tmp_path / "clinic" / "pneumonia.onnx")
    assert set(list_files(tmp_path / "clinic")) == {"pneumonia.onnx", "pneumonia.onnx.json"}
    assert list_files(folder.path) == before
