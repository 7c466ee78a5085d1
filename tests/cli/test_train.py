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


def test_config_show_prints_every_setting(invoke):
    result = invoke("config", "show", "demo", "--set", "training.epochs=3")
    assert result.exit_code == 0
    assert "# passes over the training images; integer >= 1, <= 10,000\nepochs = 3\n" in result.stdout
    assert "[augmentation]\n" in result.stdout
    assert "# path = ...\n" in result.stdout


def test_config_show_prints_one_json_document(invoke):
    shown = json.loads(invoke("config", "show", "demo", "--set", "training.epochs=3", "--json").stdout)
    assert (shown["training.epochs"]["value"], shown["training.epochs"]["default"]) == (3, 10)
    assert shown["training.mode"]["enum"] == ["cached", "online"]


def test_config_list_names_the_configurations(invoke):
    lines = invoke("config", "list").stdout.splitlines()
    assert {"default", "reference", "demo"} <= {line.split()[0] for line in lines}
    assert [line for line in lines if not line.endswith(".")] == []  # a whole sentence of each


def test_sweep_prints_one_json_document(invoke, small, tmp_path):
    (tmp_path / "grid.toml").write_text("[training]\nlearning_rate = [1e-3, 1e-2]\n")
    swept = invoke("sweep", *small, "--grid", "grid.toml", "--folds", "3", "--json")
    assert swept.exit_code == 0
    document = json.loads(swept.stdout)
    assert len(document["combinations"]) == 2
    assert document["folder"].startswith("sweeps/grid-")
    assert document["combinations"][0]["mean_log_loss"] <= document["combinations"][1]["mean_log_loss"]


def test_a_sweep_that_fails_leaves_no_folder_and_a_taken_one_is_refused(invoke, small, tmp_path):
    (tmp_path / "grid.toml").write_text("[model]\ndropout = [2.0]\n")
    assert invoke("sweep", *small, "--grid", "grid.toml").exit_code == 1
    assert list((tmp_path / "sweeps").iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    result = invoke("-q", "sweep", *small, "--grid", "grid.toml", "--out", "out")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: --out must name a new or empty folder, since nothing is ever overwritten. out is taken: name "
        "another one, or delete it first.\n",
    )
