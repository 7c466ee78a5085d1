from pathlib import Path

import pytest

from pneumo_keras.errors import BackendError, RunError
from pneumo_keras.exports import forms
from pneumo_keras.exports.forms import FORMS, check_form, choose_files


def test_stablehlo_comes_from_jax_alone(monkeypatch):
    monkeypatch.setattr(forms, "BACKEND", "torch")
    check_form("onnx")
    with pytest.raises(BackendError, match=r"--format stablehlo runs on jax\. Received: KERAS_BACKEND=torch"):
        check_form("stablehlo")


@pytest.mark.parametrize("form", FORMS)
def test_an_export_is_written_into_its_run_and_replaces_an_older_one_unless_told_otherwise(tmp_path, form):
    exports = tmp_path / "exports"
    exports.mkdir()
    (exports / "model.onnx").touch()
    assert choose_files(tmp_path, form, None) == (exports / f"model.{form}", exports / f"model.{form}.json")


@pytest.mark.parametrize("name", ["here.onnx", "here.onnx.json"])
def test_nothing_elsewhere_is_replaced(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(RunError, match=f"--out must name a new file, .* Received: .*/{name}"):
        choose_files(tmp_path / "run", "onnx", tmp_path / "here.onnx")


def test_a_file_ends_as_its_form_does():
    with pytest.raises(RunError, match=r"--out must end in \.stablehlo\. Received: a\.b"):
        choose_files(Path("run"), "stablehlo", Path("a.b"))
