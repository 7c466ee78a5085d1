"""Several processes at once on one cache, one folder of images, one parent folder, or one run."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pneumo_keras.runs.folder import extend_manifest
from tests.faults.operations import check_manifest, read_files
from tests.images import load_phantom_splits, write_splits
from tests.small import COUNTS

pytestmark = [pytest.mark.system, pytest.mark.slow]  # each process starts Keras

ROOT = Path(__file__).parents[2]
JOIN_SECONDS = 300  # seconds, for what takes ten


@pytest.fixture
def images(tmp_path):
    write_splits(tmp_path / "images", load_phantom_splits(COUNTS))
    return tmp_path / "images"


def to_training(images, run, *, seed=0):
    settings = [
        "data.source=folder",
        f"data.path={images}",
        "model.feature_layers=['mixed10']",
        "training.epochs=2",
        "training.learning_rate=0.1",  # or scores might rank backwards, which is warned about
        "model.hidden_units=4",
        f"seed={seed}",
    ]
    return ["train", "--config", "demo", *(part for one in settings for part in ("--set", one)), "--run", run]


def run_together(cache, *commands):
    """Runs commands that begin in the same moment; each one's exit status and what it said on stderr."""
    gate = cache.with_name("gate")
    environment = {**os.environ, "PNEUMO_KERAS_CACHE": str(cache), "PYTHONPATH": str(ROOT), "GATE": str(gate)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.toy_train", "-q", *map(str, command)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        until = time.monotonic() + JOIN_SECONDS
        while len(list(cache.parent.glob("gate.*"))) < len(processes) and time.monotonic() < until:
            time.sleep(0.01)
        gate.touch()
        ended = [(process.communicate(timeout=JOIN_SECONDS)[1], process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
        for file in cache.parent.glob("gate*"):
            file.unlink()
    return [(status, said) for said, status in ended]


def run_alone(cache, command):
    assert run_together(cache, command) == [(0, "")]


def test_two_trainings_and_an_evaluation_at_once_end_as_each_of_them_alone(tmp_path, images):
    alone, together = tmp_path / "alone", tmp_path / "together"
    runs = {"one": 1, "two": 2, "three": 3}
    for folder in (alone, together):
        folder.mkdir()
    for name, seed in runs.items():
        run_alone(tmp_path / "cache", to_training(images, alone / name, seed=seed))
    shutil.copytree(alone / "three", together / "three")
    run_alone(tmp_path / "cache", ["eval", alone / "three"])
    ended = run_together(
        tmp_path / "cold",
        to_training(images, together / "one", seed=1),
        to_training(images, together / "two", seed=2),
        ["eval", together / "three"],
    )
    assert ended == [(0, "")] * 3
    assert {path.name for path in together.iterdir()} == set(runs)
    for name in runs:
        assert read_files(together / name) == read_files(alone / name)
        assert check_manifest(together / name) == []


def test_of_two_trainings_into_one_folder_one_wins(tmp_path, images):
    run = tmp_path / "run"
    ended = run_together(tmp_path / "cache", *[to_training(images, run)] * 2)
    check_one_won(ended, run)
    run_alone(tmp_path / "cache", to_training(images, tmp_path / "whole"))
    assert read_files(run) == read_files(tmp_path / "whole")


def test_of_two_that_go_on_with_one_run_one_wins(tmp_path, images):
    run = tmp_path / "run"
    run_alone(tmp_path / "cache", to_training(images, run))
    whole = read_files(run)
    (run / "model.keras").unlink()
    extend_manifest(run, [])  # as if it had been stopped there
    paths = json.loads((run / "environment.json").read_text())["paths"]
    settings = (run / "config.toml").read_text()
    (run / "unfinished.json").write_text(json.dumps({"settings": settings, "paths": paths}))
    ended = run_together(tmp_path / "cache", *[["train", "--run", run, "--resume"]] * 2)
    check_one_won(ended, run)
    assert read_files(run) == whole


def test_two_evaluations_of_one_run_both_end_well(tmp_path, images):
    run = tmp_path / "run"
    run_alone(tmp_path / "cache", to_training(images, run))
    assert run_together(tmp_path / "cache", ["eval", run], ["eval", run, "--split", "val"]) == [(0, "")] * 2
    assert run_together(tmp_path / "cache", *[["eval", run]] * 2) == [(0, "")] * 2
    assert check_manifest(run) == []
    assert {"scores_test.csv", "report.html", "report_val.html"} < read_files(run).keys()
    assert not list(run.rglob(".*"))


def check_one_won(ended, run):
    """One came to its end; the other said in one line that it is too late."""
    assert sorted(status for status, _ in ended) == [0, 1]
    [line] = [said for status, said in ended if status]
    assert line.startswith("Error: ") and line.count("\n") == 1
    assert str(run) in line
    # The last where the one had already come to its end when the other looked.
    assert any(words in line for words in ("another process", "is being trained", "is taken")), line
    assert check_manifest(run) == []
