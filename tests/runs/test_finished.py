import json
import math
import os

import pytest

from pneumo_keras.config import load_config
from pneumo_keras.errors import RunError
from pneumo_keras.runs.finished import load_run
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.manifest import extend_manifest

CONFIG = load_config("demo")
HISTORY = [
    {"epoch": 1, "loss": 0.7, "accuracy": 0.6, "val_loss": 0.6, "val_accuracy": 0.7, "kept": 0},
    {"epoch": 2, "loss": 0.6, "accuracy": 0.7, "val_loss": 0.5, "val_accuracy": 0.8, "kept": 1},
]
POINT = {
    "threshold": 0.5,
    "rule": "fixed",
    "demand": {"threshold": 0.5},
    "chosen_on": "val",
    "counts": {"tn": 3, "fp": 1, "fn": 0, "tp": 0},
    "sensitivity": None,
    "specificity": 0.75,
}
CALIBRATION = {
    "slope": 1.0,
    "intercept": 0.0,
    "method": "none",
    "fitted_on": "val",
    "prevalence": 0.5,
    "calibration_error": {"before": 0.1, "after": 0.1},
    "bins": 15,
}


IMAGES = {"sha256": "f", "labels_sha256": "l"}
HEADER = "epoch,loss,accuracy,val_loss,val_accuracy,kept\n"
ENVIRONMENT = {
    "backend": "jax",
    "paths": {},
    "packages": {},
    "images": {"train": {**IMAGES, "class_counts": [1, 4]}, "val": {**IMAGES, "class_counts": [4, 0]}},
    "data": {
        "title": "images",
        "notice": "",
        "files": {},
        "preparation": {"size": 28, "jpeg_quality": None},
    },
    "class_weights": {"0": 2.5, "1": 0.625},
    "weights_sha256": "w",
    "classifier_sha256": "c",
}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.writing(CONFIG, {}):
        folder.write_table("history.csv", HISTORY)
        folder.write_json("operating_point.json", POINT)
        folder.write_json("calibration.json", CALIBRATION)
        folder.write_json("environment.json", ENVIRONMENT)
        folder.write_with("model.keras", lambda path: path.write_bytes(b"model"))
    return folder


def change(folder, name, content):
    """Lets a file hold something else, and the manifest say so: readers must tell by themselves."""
    (folder.path / name).write_bytes(content)
    extend_manifest(folder.path, [name])


def read_message(folder):
    with pytest.raises(RunError) as caught:
        load_run(folder)
    return str(caught.value).removeprefix(f"{folder.path}/")


def test_a_finished_run_is_read_whole(folder):
    run = load_run(folder)
    assert run.config == CONFIG
    assert run.history == HISTORY
    assert run.operating_point.counts.tn == 3
    assert math.isnan(run.operating_point.sensitivity)
    assert run.calibration.prevalence == 0.5
    assert run.environment["backend"] == "jax"


def test_a_folder_that_is_no_run_says_so(tmp_path):
    assert "must be the folder of a run" in read_message(RunFolder(tmp_path))


def test_an_unfinished_run_says_so(folder):
    (folder.path / "manifest.sha256").unlink()
    (folder.path / "unfinished.json").touch()
    with pytest.raises(RunError) as caught:
        load_run(folder)
    assert str(caught.value) == (
        f"{folder.path} holds a run that was not finished. Go on with it: pneumo-keras train --run "
        f"{folder.path} --resume, or delete it."
    )


def test_a_run_without_its_manifest_is_no_unfinished_one(folder):
    """What --resume would have trained over."""
    (folder.path / "manifest.sha256").unlink()
    assert not folder.is_begun()
    with pytest.raises(RunError) as caught:
        load_run(folder)
    assert str(caught.value) == (
        f"{folder.path} is no finished run: it must have a manifest.sha256 that names model.keras. It may "
        "be of an earlier version, or only a part of a run. Train into another folder."
    )


def test_a_run_that_is_being_trained_says_so(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.writing(CONFIG, {}), pytest.raises(RunError, match="is being trained: wait until it is"):
        load_run(RunFolder(tmp_path / "run"))


@pytest.mark.parametrize(
    "name", ["config.toml", "history.csv", "operating_point.json", "calibration.json", "environment.json"]
)
def test_a_flipped_bit_is_found_and_its_file_named(folder, name):
    data = bytearray((folder.path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder.path / name).write_bytes(data)
    assert read_message(folder).startswith(
        f"{name} is damaged or was changed: it must hold what manifest.sha256"
    )


@pytest.mark.parametrize(
    "name", ["history.csv", "operating_point.json", "calibration.json", "environment.json"]
)
def test_a_missing_file_is_named(folder, name):
    (folder.path / name).unlink()
    assert read_message(folder) == f"{name} is missing. Train or evaluate again."


@pytest.mark.parametrize("name", ["operating_point.json", "calibration.json"])
@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"slope": "steep", "threshold": "high"}', "\xff"])
def test_a_damaged_document_gets_one_line_that_names_it(folder, name, text):
    change(folder, name, text.encode("latin-1"))
    line = read_message(folder)
    assert line.startswith(name)
    assert "\n" not in line


@pytest.mark.parametrize("prevalence", [0, 1, None, "half"])
def test_a_prevalence_that_is_no_share_is_damage(folder, prevalence):
    change(folder, "calibration.json", json.dumps({**CALIBRATION, "prevalence": prevalence}).encode())
    assert read_message(folder).startswith("calibration.json is damaged: 'prevalence' ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "epoch,loss,accuracy,val_loss,val_accuracy\n1,high,0,0,0\n",
            "history.csv must hold numbers: could not convert string to float: 'high'. Train again.",
        ),
        (
            "epoch,loss,accuracy,val_loss,val_accuracy\n1,0\n",
            "history.csv must hold numbers: ",
        ),
        (HEADER + "1,0,0,nan,0,1\n", "history.csv must hold finite numbers. Train again."),
        (HEADER + "2,0,0,0,0,1\n", "history.csv must count its epochs from 1, and say which were kept."),
        (HEADER + "1,0,0,0,0,0\n", "history.csv must count its epochs from 1, and say which were kept."),
        (HEADER + "1,0,0,0,0," + "0" * 200_000 + "\n", "history.csv must hold numbers: field larger than"),
        (
            HEADER + "".join(f"{epoch},0,0,0,0,1\n" for epoch in range(1, 17)),
            "history.csv is damaged: it has more epochs than the settings ask for. Train again.",
        ),
        (
            "epoch,loss\n1,0\n",
            "history.csv must have a row an epoch, with accuracy, epoch, kept, loss, val_accuracy, val_loss. "
            "Received: 1 row. Train again.",
        ),
        ("", "history.csv must have a row an epoch, with accuracy, epoch, kept, loss, val_accuracy"),
    ],
)
def test_a_history_that_is_none_gets_one_line(folder, text, line):
    change(folder, "history.csv", text.encode())
    assert read_message(folder).startswith(line)


def test_settings_of_another_version_get_one_line_with_the_file(folder):
    change(folder, "config.toml", b"[training]\nepoch = 3\n")
    assert read_message(folder) == (
        "config.toml is damaged, or of another version. Unknown setting 'training.epoch'. Did you mean "
        "'training.epochs'?"
    )


@pytest.mark.parametrize(
    ("name", "document", "line"),
    [
        (
            "operating_point.json",
            {**POINT, "threshold": 0.6},
            "operating_point.json is damaged: its threshold is not the one that the settings give.",
        ),
        (
            "operating_point.json",
            {**POINT, "threshold": 0.6, "demand": {"threshold": 0.6}},
            "operating_point.json is damaged: it was chosen otherwise than the settings of the run ask for.",
        ),
        (
            "operating_point.json",
            {**POINT, "rule": "youden", "demand": {}},
            "operating_point.json is damaged: it was chosen otherwise than the settings of the run ask for.",
        ),
        (
            "operating_point.json",
            {**POINT, "rule": "{threshold.__class__}"},
            "operating_point.json is damaged: 'rule' must be one of fixed, youden, sensitivity, cost, not",
        ),
        (
            "operating_point.json",
            {**POINT, "specificity": 0.7},
            "operating_point.json is damaged: 'specificity' must be that of its counts.",
        ),
        (
            "operating_point.json",
            {**POINT, "counts": {"tn": 3, "fp": 1, "fn": 0, "tp": -1}},
            "operating_point.json is damaged: 'counts.tp' should be greater than or equal to 0.",
        ),
        (
            "operating_point.json",
            {**POINT, "counts": {"tn": 6, "fp": 2, "fn": 0, "tp": 0}},
            "operating_point.json is damaged: its counts are of other images than those of environment.json.",
        ),
        (
            "operating_point.json",
            {**POINT, "chosen_on": "test"},
            "operating_point.json is damaged: it was not chosen on validation images.",
        ),
        (
            "calibration.json",
            {**CALIBRATION, "slope": 2.0},
            "calibration.json is damaged: 'slope' and 'intercept' must be those of the method 'none'.",
        ),
        (
            "calibration.json",
            {**CALIBRATION, "method": "platt"},
            "calibration.json is damaged: it was fitted otherwise than the settings of the run ask for.",
        ),
        (
            "calibration.json",
            {**CALIBRATION, "prevalence": 0.4},
            "calibration.json is damaged: without an intercept its prevalence is 0.5.",
        ),
        (
            "environment.json",
            {**ENVIRONMENT, "images": {"val": ENVIRONMENT["images"]["val"]}},
            "environment.json is damaged: 'images.train' is missing.",
        ),
        (
            "environment.json",
            {**ENVIRONMENT, "fine_tuned_weights_sha256": "f"},
            "environment.json is damaged: it says of fine-tuned weights what the settings do not ask for.",
        ),
        (
            "environment.json",
            {**ENVIRONMENT, "class_weights": {"0": 1.0, "1": 1.0}},
            "environment.json is damaged: its class weights are not those of its training images.",
        ),
        (
            "environment.json",
            {**ENVIRONMENT, "paths": {"data.path": 3}},
            "environment.json is damaged: 'paths.data.path' should be a valid string.",
        ),
        ("environment.json", [], "environment.json is damaged: should be an object."),
    ],
)
def test_files_of_different_runs_are_not_believed(folder, name, document, line):
    change(folder, name, json.dumps(document).encode())
    assert read_message(folder).startswith(line)


def test_no_file_of_a_run_is_waited_for(folder):
    path = folder.path / "calibration.json"
    path.unlink()
    os.mkfifo(path)
    assert "calibration.json cannot be read: it is no ordinary file" in read_message(folder)
