import json
import re
from pathlib import Path

import pytest

from pneumo_keras.recipes import train as train_recipe


def test_a_training_prints_its_validation_figures_and_makes_a_folder_of_config_and_time(
    invoke, small, tmp_path
):
    trained = invoke("-q", "train", *small, "--json")
    assert (trained.exit_code, trained.stderr) == (0, "")
    document = json.loads(trained.stdout)
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"demo-\d{8}-\d{6}", run.name)
    assert (document["run"], document["split"], document["n"]) == (f"runs/{run.name}", "val", 30)
    metrics = json.loads((run / "metrics_val.json").read_text())
    assert metrics["figures"] == document["figures"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["train", "--set", "training.epoch=3"],
            "Unknown setting 'training.epoch'. Did you mean 'training.epochs'?",
        ),
        (
            ["train", "--config", "demo", "--set", "model.image_size=60"],
            "Setting 'model.image_size' must be greater than or equal to 75. Received: 60",
        ),
        (
            ["eval", "nowhere"],
            "RUN must be the folder of a run, with a config.toml. nowhere is none: train one with "
            "pneumo-keras train --run nowhere",
        ),
        (
            ["eval", "."],
            "RUN must be the folder of a run, with a config.toml. . is none: train one with "
            "pneumo-keras train --run .",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_status_1(invoke, arguments, line):
    result = invoke("-q", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {line}\n")


def test_a_taken_folder_is_refused_before_any_work(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr(train_recipe, "open_splits", lambda *_: pytest.fail("work was done"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    result = invoke("-q", "train", "--config", "demo", "--run", "run")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: --run must name a new or empty folder, since nothing is ever overwritten. run is taken: name "
        "another one, or delete it first.\n",
    )


def test_a_run_keeps_paths_as_written_and_finds_its_images_from_any_folder(
    invoke, small, tmp_path, monkeypatch
):
    invoke("data", "phantom", "images.npz", "--train", "60", "--val", "30", "--test", "40")
    source = ["--set", "data.source=pneumonia_mnist", "--set", "data.path=images.npz"]
    assert invoke("train", *small, *source, "--run", "run").exit_code == 0
    assert 'path = "images.npz"' in Path("run/config.toml").read_text()
    noted = json.loads(Path("run/environment.json").read_text())["paths"]
    assert noted == {"data.path": str(tmp_path / "images.npz")}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert invoke("eval", "../run").exit_code == 0
    report = Path("../run/report.html").read_text()
    assert "images.npz" in report
    assert str(tmp_path) not in report
