"""Unusual folders for a run."""

import pytest

from pneumo_keras.errors import TrainingError
from pneumo_keras.recipes import network
from pneumo_keras.recipes import train as train_recipe
from pneumo_keras.runtime import backend
from tests.faults.operations import TRAIN, check_manifest, invoke
from tests.toy import build_toy_backbone


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    monkeypatch.setattr(backend, "start_backend", lambda cache: None)  # it has been started
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to("own")
    (tmp_path / "file").write_text("text")
    monkeypatch.chdir(tmp_path / "own")


def fail(*_):
    raise TrainingError("The loss is NaN.")


@pytest.mark.parametrize("folder", [".", "../link", "deep/below", "x" * 255])
def test_a_fit_that_fails_leaves_the_folder_as_it_was_and_one_that_does_not_fills_it(
    tmp_path, own_cache, monkeypatch, folder
):
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patched:
        patched.setattr(train_recipe, "fit_heads", fail)
        done = invoke(own_cache, *TRAIN, "--run", folder)
    assert (done.exit_code, done.stderr) == (1, "Error: The loss is NaN.\n")
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "deep") == before
    done = invoke(own_cache, *TRAIN, "--run", folder)
    assert (done.exit_code, done.stderr) == (0, "")
    run = tmp_path / "own" / folder
    assert check_manifest(run) == []
    assert {path.name for path in run.iterdir()} >= {"model.keras", "train.log"}
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("../file", "--run must name a new or empty folder"),
        ("../file/below", "Not a directory"),
        ("x" * 256, "File name too long"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path, own_cache, folder, reason):
    before = sorted(tmp_path.rglob("*"))
    done = invoke(own_cache, *TRAIN, "--run", folder)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
