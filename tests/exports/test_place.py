from pathlib import Path

import pytest

from pneumo_keras.errors import ExportError, RunError
from pneumo_keras.exports.place import Place, choose_place


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("onnx", ("model.onnx",)),
        ("openvino", ("model.xml", "model.bin")),
        ("stablehlo", ("model.stablehlo",)),
    ],
)
def test_an_export_stands_in_its_run_unless_told_otherwise(form, names):
    assert choose_place(Path("run"), form, None) == Place(Path("run/exports"), names, f"model.{form}.json")


def test_an_older_export_of_the_run_gives_way(tmp_path):
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "model.onnx").touch()
    assert choose_place(tmp_path, "onnx", None).names == ("model.onnx",)


@pytest.mark.parametrize("name", ["here.xml", "here.bin", "here.openvino.json"])
def test_nothing_elsewhere_gives_way(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(RunError, match=f"--out must name a new file, .* Received: .*/{name}"):
        choose_place(tmp_path / "run", "openvino", tmp_path / "here.xml")


def test_a_file_ends_as_its_form_does():
    with pytest.raises(ExportError) as caught:
        choose_place(Path("run"), "openvino", Path("here.onnx"))
    assert str(caught.value) == "--out must end in .xml for the format openvino. Received: here.onnx"
