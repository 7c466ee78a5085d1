import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.data.pictures import load_image
from pneumo_keras.exports import forms
from pneumo_keras.model.classifier import load_classifier
from pneumo_keras.runtime import backend

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def test_export_says_what_it_wrote_how_well_it_agrees_and_what_to_read(invoke, run):
    pytest.importorskip("onnxruntime")
    result = invoke("export", "run", "--format", "onnx")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"run/exports/model\.onnx, \d+\.\d MB\n"
        r"onnxruntime [\d.]+ scores 64 images of 3 sizes as Keras does, "
        r"within \d\.\de-\d\d \(allowed: 1e-04\)\n"
        r"How to use it: run/exports/model\.onnx\.json\n",
        result.stdout,
    )


def test_export_prints_one_json_document(invoke, run):
    pytest.importorskip("onnxruntime")
    document = json.loads(invoke("export", "run", "--format", "onnx", "--out", "new/a.onnx", "--json").stdout)
    assert document["files"] == ["new/a.onnx"]
    assert document["sidecar"] == "new/a.onnx.json"
    assert document["bytes"] == Path("new/a.onnx").stat().st_size
    assert document["verification"] == json.loads(Path("new/a.onnx.json").read_text())["verification"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["nowhere", "--format", "onnx"],
            "RUN must be the folder of a run, with a config.toml. nowhere is none: train one with "
            "pneumo-keras train --run nowhere",
        ),
        (
            ["run", "--format", "onnx", "--out", "model.pb"],
            "--out must end in .onnx. Received: model.pb",
        ),
        (
            ["run", "--format", "onnx", "--out", "taken.onnx"],
            "--out must name a new file, since nothing is ever overwritten. Received: taken.onnx",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_status_1(invoke, run, arguments, line):
    pytest.importorskip("onnxruntime")
    Path("taken.onnx").touch()
    result = invoke("-q", "export", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {line}\n")


def test_a_place_that_cannot_be_written_is_named(invoke, run):
    pytest.importorskip("onnxruntime")
    result = invoke("-q", "export", "run", "--format", "onnx", "--out", "not/there/model.onnx")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: --out cannot be written: not/there (No such file or directory)\n",
    )


def test_the_backend_is_checked_before_anything_is_loaded(invoke, run, monkeypatch):
    monkeypatch.setattr(backend, "start_backend", lambda cache: pytest.fail("Keras was loaded"))
    monkeypatch.setattr(forms, "BACKEND", "torch")
    result = invoke("-q", "export", "run", "--format", "stablehlo")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: pneumo-keras export --format stablehlo runs on jax. Received: KERAS_BACKEND=torch\n",
    )


def test_an_unknown_format_is_wrong_usage(invoke, run):
    assert invoke("export", "run", "--format", "savedmodel").exit_code == 2
    assert invoke("export", "run").exit_code == 2


def find_script():
    """The one that docs/export.md shows."""
    (script,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        if "onnxruntime" in block
    ]
    return script


def write_images(folder, image):
    """The same image as files of several kinds, of which `predict` makes the same."""
    upright = Image.fromarray(image)
    upright.save(folder / "grey.png")
    upright.convert("RGB").save(folder / "colour.png")
    Image.fromarray(image.astype(np.uint16) * 257).save(folder / "wide.png")
    clear = Image.new("RGBA", upright.size, "white")
    clear.putalpha(upright)
    clear.save(folder / "clear.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be shown turned clockwise
    for name in ("grey", "wide"):
        with Image.open(folder / f"{name}.png") as picture:
            picture.transpose(Image.Transpose.ROTATE_90).save(folder / f"{name}_turned.png", exif=exif)
    return sorted(file.name for file in folder.glob("*.png"))


@pytest.mark.parametrize("quality", [None, 75])
def test_the_script_of_the_documentation_prepares_and_scores_as_the_run_does_whatever_the_file(
    invoke, run, tmp_path, quality
):
    pytest.importorskip("onnxruntime")
    assert invoke("export", "run", "--format", "onnx").exit_code == 0
    sidecar = run / "exports" / "model.onnx.json"
    about = json.loads(sidecar.read_text())
    about["preparation"]["jpeg_quality"] = quality
    sidecar.write_text(json.dumps(about))
    (image,) = PhantomImages(2, 120, 7).read(slice(1))
    names = write_images(tmp_path, image[:, 11:])  # higher than wide
    assert len(names) == 6
    (tmp_path / "score.py").write_text(find_script(), encoding="utf-8")
    model = load_classifier(run / "model.keras").join()
    threshold = json.loads((run / "operating_point.json").read_text())["threshold"]
    for name in names:
        pixels = prepare_image(load_image(tmp_path / name), Preparation(28, quality))
        score = model.predict_on_batch(pixels[None, ..., None]).item()
        predicted = "pneumonia" if score > threshold else "normal"
        command = [sys.executable, "-W", "error", "score.py", "run/exports/model.onnx", name]
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        line = f"{name}: {predicted}, score {score:.4f}, threshold {threshold:.4f}. A research tool"
        assert said.startswith(line)


def test_the_script_of_the_readme_needs_nothing_else():
    imported = set(re.findall(r"^(?:import|from) (\w+)", find_script(), re.MULTILINE))
    assert imported == {"io", "json", "sys", "numpy", "onnxruntime", "PIL"}
    assert len(find_script().splitlines()) <= 40
