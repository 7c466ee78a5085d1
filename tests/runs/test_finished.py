import json
import math

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


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.writing(CONFIG):
        folder.write_table("history.csv", HISTORY)
        folder.write_json("operating_point.json", POINT)
        folder.write_json("calibration.json", CALIBRATION)
        folder.write_json("environment.json", {"backend": "jax", "paths": {}})
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
    with pytest.raises(RunError) as caught:
        load_run(folder)
    assert str(caught.value) == (
        f"{folder.path} holds a run that was not finished. Go on with it: pneumo-keras train --run "
        f"{folder.path} --resume, or delete it."
    )


def test_a_run_that_is_being_trained_says_so(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.writing(CONFIG), pytest.raises(RunError, match="is being trained: wait until it is finished"):
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
        (
            "epoch,loss\n1,0\n",
            "history.csv must have a row an epoch, with accuracy, epoch, kept, loss, val_accuracy, val_loss. "
            "Received: 1 rows. Train again.",
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
