import json
import shutil

import pytest

from pneumo_keras.recipes import train as train_recipe
from pneumo_keras.runs.folder import load_manifest
from pneumo_keras.runtime.signals import Stopped


def interrupt(*_):
    raise Stopped(15)


@pytest.fixture
def stopped(invoke, small, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(train_recipe, "calibrate", interrupt)
        ended = invoke("-q", "train", *small, "--run", "run")
    assert (ended.exit_code, ended.stderr) == (
        143,
        "Stopped. Continue with: pneumo-keras train --run run --resume\n",
    )


def test_a_training_that_is_stopped_is_gone_on_with(invoke, small, stopped, tmp_path):
    resumed = invoke("train", "--run", "run", "--resume", "--json")
    assert resumed.exit_code == 0
    assert "Continuing after epoch 2, batch 0" in resumed.stderr
    assert invoke("train", *small, "--run", "whole").exit_code == 0
    for name in ("history.csv", "scores_val.csv", "metrics_val.json", "ood_detector.npz", "config.toml"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "run" / "checkpoint").exists()
    again = invoke("train", "--run", "run", "--resume", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == json.loads(resumed.stdout)
    assert "run is finished: nothing is left to do" in again.stderr


def test_a_finished_run_with_a_flipped_bit_or_a_lost_file_is_not_called_finished(invoke, small, tmp_path):
    """Only the settings and the figures were read, so a broken model passed."""
    assert invoke("train", *small, "--run", "run").exit_code == 0
    for name in load_manifest(tmp_path / "run"):
        path = tmp_path / "run" / name
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        for command in (["train", "--run", "run", "--resume"], ["compare", "run", "run", "--split", "val"]):
            met = invoke("-q", *command)
            assert (met.exit_code, met.stdout) == (1, ""), name
            assert met.stderr.startswith(
                f"Error: run/{name} is damaged or was changed: it must have the checksum in "
            ), name
        path.unlink()
        met = invoke("-q", "train", "--run", "run", "--resume")
        assert (met.exit_code, met.stdout, met.stderr.count("\n")) == (1, "", 1), name
        path.write_bytes(whole)
    (tmp_path / "run" / "model.keras").unlink()  # what was deleted to save room is not compared
    assert invoke("compare", "run", "run", "--split", "val").exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--run", "run"],
        ["eval", "run"],
        ["predict", "run", "image.png"],
        ["explain", "run", "image.png"],
        ["export", "run", "--format", "onnx"],
        ["app", "run"],
        ["compare", "run", "run"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_says_of_a_run_that_it_was_not_finished(invoke, stopped, tmp_path, command):
    (tmp_path / "image.png").touch()
    met = invoke("-q", *command)
    assert (met.exit_code, met.stdout, met.stderr) == (
        1,
        "",
        "Error: run holds a run that was not finished. Continue it: pneumo-keras train --run run --resume, "
        "or delete it.\n",
    )


def test_a_training_under_a_name_of_its_own_is_gone_on_with_too(invoke, small, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(train_recipe, "calibrate", interrupt)
        ended = invoke("-q", "train", *small)
    name = ended.stderr.split()[-2]
    assert name.startswith("runs/demo-")
    assert invoke("train", "--run", name, "--resume").exit_code == 0


def test_the_same_command_begins_a_run_and_goes_on_with_it(invoke, small, monkeypatch):
    command = ["train", *small, "--run", "run", "--resume"]
    with monkeypatch.context() as patched:
        patched.setattr(train_recipe, "calibrate", interrupt)
        assert invoke(*command).exit_code == 143
    assert "Continuing after epoch 2" in invoke(*command).stderr
    assert "nothing is left to do" in invoke(*command).stderr


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused(invoke, small, stopped, finished):
    if finished:
        assert invoke("train", "--run", "run", "--resume").exit_code == 0
    for other in (["--set", "training.epochs=5"], [*small, "--set", "training.epochs=5"]):
        ended = invoke("-q", "train", *other, "--run", "run", "--resume")
        assert (ended.exit_code, ended.stderr) == (
            1,
            "Error: run has other settings: training.epochs = 2. Received: 5. Leave --config and --set "
            "out, or name another --run.\n",
        )


def test_a_run_killed_before_it_wrote_its_settings_is_gone_on_with(invoke, stopped, tmp_path):
    (tmp_path / "run" / "config.toml").unlink()
    assert invoke("train", "--run", "run", "--resume").exit_code == 0
    assert (tmp_path / "run" / "config.toml").is_file()


def test_images_are_found_from_another_folder_and_where_they_moved(invoke, small, tmp_path, monkeypatch):
    data = ["data", "phantom", "images.npz", "--train", "60", "--val", "30", "--test", "40"]
    assert invoke(*data).exit_code == 0
    source = ["--set", "data.source=pneumonia_mnist", "--set", "data.path=images.npz", *small[4:]]
    with monkeypatch.context() as patched:
        patched.setattr(train_recipe, "calibrate", interrupt)
        assert invoke("train", "--config", "demo", *source, "--run", "run").exit_code == 143
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(train_recipe, "calibrate", interrupt)
        patched.chdir(elsewhere)
        resumed = invoke("train", "--run", "../run", "--resume")
        assert (resumed.exit_code, "Continuing after epoch 2" in resumed.stderr) == (143, True)
    (tmp_path / "images.npz").rename(tmp_path / "moved.npz")
    gone = invoke("-q", "train", "--run", "run", "--resume")
    assert (gone.exit_code, "images.npz" in gone.stderr) == (1, True)
    moved = invoke("train", "--run", "run", "--resume", "--set", "data.path=moved.npz")
    assert (moved.exit_code, "Continuing after epoch 2" in moved.stderr) == (0, True)
    assert invoke("eval", "run").exit_code == 0


def test_other_images_of_that_name_are_refused(invoke, small, monkeypatch):
    counts = ["--train", "60", "--val", "30", "--test", "40"]
    assert invoke("data", "phantom", "images.npz", *counts).exit_code == 0
    assert invoke("data", "phantom", "other.npz", *counts, "--seed", "7").exit_code == 0
    source = ["--set", "data.source=pneumonia_mnist", "--set", "data.path=images.npz", *small[4:]]
    with monkeypatch.context() as patched:
        patched.setattr(train_recipe, "calibrate", interrupt)
        assert invoke("train", "--config", "demo", *source, "--run", "run").exit_code == 143
    ended = invoke("-q", "train", "--run", "run", "--resume", "--set", "data.path=other.npz")
    assert ended.exit_code == 1
    assert "Error: run/checkpoint was written with other training images: restore them" in ended.stderr


def test_an_evaluation_on_other_images_is_no_training_to_go_on_with(invoke, small):
    assert invoke("data", "phantom", "images.npz", "--seed", "7").exit_code == 0
    assert invoke("train", *small, "--run", "run").exit_code == 0
    assert invoke("eval", "run", "--data", "images.npz").exit_code == 0
    ended = invoke("-q", "train", "--run", "run/data/images", "--resume")
    assert (ended.exit_code, "which holds none" in ended.stderr) == (1, True)
    shutil.copytree("run/data/images", "alone")
    assert invoke("compare", "run/data/images", "alone").exit_code == 0


def test_there_must_be_something_to_go_on_with(invoke, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        ended = invoke("-q", "train", "--run", name, "--resume")
        assert (ended.exit_code, ended.stderr) == (
            1,
            f"Error: --resume continues a run that was begun. Received: {name}, which holds none. Begin "
            "one with --config.\n",
        )
    assert invoke("train", "--resume").exit_code == 2
