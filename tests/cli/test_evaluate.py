import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pneumo_keras.data import pneumonia_mnist
from pneumo_keras.recipes import perturbations
from pneumo_keras.runs.folder import RunFolder, extend_manifest
from tests.images import load_phantom_splits, write_images


def test_eval_prints_figures_as_text_or_as_one_json_document(invoke, run, tmp_path):
    told = invoke("eval", "run")
    assert told.exit_code == 0
    assert told.stdout.startswith("run, split test\n") and "\nAUC  " in told.stdout
    assert " Report: run/report.html\n" in told.stderr and Path("run/report.html").is_file()
    evaluated = invoke("-q", "eval", "run", "--json")
    assert (evaluated.exit_code, evaluated.stderr) == (0, "")
    document = json.loads(evaluated.stdout)
    assert (document["split"], document["n"]) == ("test", 40)
    assert sum(document["counts"].values()) == 40
    metrics = json.loads((tmp_path / "run" / "metrics_test.json").read_text())
    assert metrics["figures"] == document["figures"]
    assert document["perturbed"] is None


def test_perturbed_figures_are_printed_with_their_changes(invoke, run, monkeypatch):
    for table, name in ((perturbations.CORRUPTIONS, "shot_noise"), (perturbations.PERTURBATIONS, "rotation")):
        for other in {*table} - {name}:
            monkeypatch.delitem(table, other)
    document = json.loads(invoke("eval", "run", "--perturb", "--json").stdout)
    perturbed, robustness = document["perturbed"], document["perturbed"]["robustness"]
    assert perturbed["n"] == 40
    changed = perturbed["figures"]["auc"]["value"] - document["figures"]["auc"]["value"]
    assert perturbed["changes"]["auc"]["value"] == pytest.approx(changed)
    assert perturbed["perturbation"]["seed"] == robustness["seed"] == 0
    assert set(robustness["kinds"]) == {"shot_noise", "rotation"}
    text = invoke("eval", "run", "--perturb").stdout
    assert "change  95 % interval, paired" in text
    assert f"medmnistc 0.1.0: {robustness['medmnist_c']['mean_relative_error']:.3f}." in text


def test_nothing_but_eval_on_the_test_split_opens_its_arrays(invoke, small, monkeypatch, own_cache):
    """Not even once: data audit aside, which compares all splits before any choice is made."""
    opened = []
    counts = ["--train", "60", "--val", "30", "--test", "40"]
    assert invoke("data", "phantom", "images.npz", *counts).exit_code == 0
    unpack, load = zipfile.ZipFile.open, pneumonia_mnist.load_prepared
    monkeypatch.setattr(
        zipfile.ZipFile,
        "open",
        lambda file, name, *rest, **others: opened.append(str(name)) or unpack(file, name, *rest, **others),
    )
    monkeypatch.setattr(
        pneumonia_mnist,
        "load_prepared",
        lambda npz, split, **others: opened.append(split) or load(npz, split, **others),
    )
    Path("grid.toml").write_text("[training]\nlearning_rate = [1e-3, 1e-2]\n")
    source = [*small, "--set", "data.source=pneumonia_mnist", "--set", "data.path=images.npz"]
    online = ["--set", "training.mode=online", "--set", "training.epochs=1"]
    for command in (
        ["data", "prepare", "--path", "images.npz"],
        ["train", *source, "--run", "one", "--set", "evaluation.calibration=platt"],
        ["train", *source, "--run", "two", *online],
        ["eval", "one", "--split", "val", "--prevalence", "0.3"],
        ["compare", "one", "two", "--split", "val"],
        ["sweep", *source, "--grid", "grid.toml", "--folds", "2"],
    ):
        result = invoke(*command)
        assert result.exit_code == 0, result.output
    assert {"train_images.npy", "val_labels.npy", "train", "val"} <= set(opened)
    assert not [name for name in opened if name.startswith("test")]
    assert invoke("eval", "one").exit_code == 0
    assert {"test_images.npy", "test_labels.npy", "test"} <= set(opened)


def test_a_prevalence_is_a_share(invoke, run):
    evaluated = invoke("eval", "run", "--prevalence", "1")
    assert evaluated.exit_code == 2
    assert "1.0 is not in the range 0<x<1" in evaluated.stderr


PROBE = (
    "import sys\n"
    "from pneumo_keras.cli import main\n"
    "try: main(sys.argv[1:])\n"
    "except SystemExit as end: status = end.code\n"
    "print(status, sorted({'keras', 'jax', 'tensorflow', 'torch'} & set(sys.modules)), file=sys.stderr)"
)


def probe(*arguments):
    """The last lines on stderr: what the command said, its status, and which of the heavy were imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    "command",
    [["eval", "nowhere"], ["export", "nowhere", "--format", "onnx"], ["compare", "nowhere", "nowhere"]],
)
def test_a_folder_that_is_no_run_is_named_without_keras(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert probe(*command) == [
        "Error: RUN must be the folder of a run, with a config.toml. nowhere is none: train one with "
        "pneumo-keras train --run nowhere",
        "1 []",
    ]


@pytest.mark.parametrize(
    ("name", "text"), [("calibration.json", "{}"), ("history.csv", None), ("operating_point.json", "[]")]
)
def test_a_damaged_run_gets_one_line_and_nothing_of_it_is_replaced(invoke, run, tmp_path, name, text):
    if text is None:
        (tmp_path / "run" / name).unlink()
    else:
        (tmp_path / "run" / name).write_text(text)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    evaluated = invoke("-q", "eval", "run", "--split", "val")
    assert (evaluated.exit_code, evaluated.stderr.count("\n")) == (1, 1)
    assert evaluated.stderr.startswith(f"Error: run/{name} ")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == before


@pytest.fixture
def own_folder(invoke, small, tmp_path):
    """A run on images of a folder, which has another name since."""
    for split, images in load_phantom_splits((30, 16, 16), seed=7).items():
        write_images(tmp_path / "images" / split, images)
    source = ["--set", "data.source=folder", "--set", "data.path=images"]
    assert invoke("-q", "train", *small, *source, "--run", "run").exit_code == 0
    (tmp_path / "images").rename(tmp_path / "2024")


@pytest.mark.usefixtures("own_folder")
def test_images_that_were_moved_are_named_and_must_be_the_same(invoke, tmp_path):
    (tmp_path / "other").mkdir()
    lost = invoke("-q", "eval", "run")
    assert (lost.exit_code, lost.stderr) == (
        1,
        "Error: The images that run was made with must have the same path as then, or that of --set "
        f"data.path=... Received: {tmp_path}/images, which does not exist.\n",
    )
    nowhere = invoke("-q", "eval", "run", "--set", "data.path=nowhere")
    assert (nowhere.exit_code, f"{tmp_path}/nowhere, which does not" in nowhere.stderr) == (1, True)
    others = invoke("-q", "eval", "run", "--set", "data.path=other")
    assert (others.exit_code, others.stderr.count("\n")) == (1, 1)
    found = invoke("-q", "eval", "run", "--set", "data.path=2024")
    assert (found.exit_code, found.stderr) == (0, "")
    (tmp_path / "2024" / "train" / "NORMAL").rename(tmp_path / "2024" / "train" / "swapped")
    changed = invoke("-q", "eval", "run", "--set", "data.path=2024")
    assert (changed.exit_code, changed.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=1", "--set takes only data.path for a finished run, where its images are now: its other "),
        ("model.weights=w.h5", "--set takes only data.path for a finished run, where its images are now: "),
        ("data.path=", "Setting 'data.path' must be a path. Received: ''"),
        ("data.path", "--set must look like training.epochs=3. Received: data.path"),
        ("data.path=2024", 'data.source="phantom" reads no file. Leave data.path unset'),
    ],
)
def test_of_a_finished_run_nothing_but_the_place_of_its_images_can_be_set(invoke, run, override, line):
    done = invoke("-q", "eval", "run", "--set", override)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"Error: {line}")


def test_what_contradicts_itself_is_wrong_usage(invoke, run):
    assert invoke("eval", "run", "--data", "run", "--set", "data.path=x").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--name", "here"], "--positive and --name go with --data."),
        (["--positive", "ill"], "--positive and --name go with --data."),
        (["--data", "nowhere"], "Path 'nowhere' does not exist."),
    ],
)
def test_options_of_other_images_are_checked_before_any_work(invoke, run, arguments, line):
    evaluated = invoke("eval", "run", *arguments)
    assert (evaluated.exit_code, line in evaluated.stderr) == (2, True)


@pytest.fixture
def other(run):
    """A run with another threshold."""
    folder = RunFolder(Path(shutil.copytree(run, run.with_name("other"))))
    settings = folder.path / "config.toml"
    settings.write_text(settings.read_text().replace("seed = 42", "seed = 7"))
    extend_manifest(folder.path, ["config.toml"])
    return folder


def test_compare_prints_paired_differences(invoke, other):
    text = invoke("compare", "run", "other", "--split", "val").stdout
    assert text.startswith("other minus run, split val\n")
    assert "\nAUC  " in text
    compared = invoke("compare", "run", "other", "run", "--split", "val", "--json", "--out", "roc.png")
    document = json.loads(compared.stdout)
    assert [one["run"] for one in document["others"]] == ["other", "run"]
    assert document["others"][0]["changed"] == {"seed": ["42", "7"], "augmentation.seed": ["42", "7"]}
    auc = document["others"][0]["differences"]["auc"]
    assert auc["value"] == 0
    assert Path("roc.png").is_file()
    alone = invoke("compare", "run")
    assert (alone.exit_code, "Name two runs or more." in alone.stderr) == (2, True)


def test_runs_are_compared_without_keras(invoke, other):
    assert probe("compare", "run", "other", "--split", "val", "--out", "roc.png") == ["0 []"]


def test_runs_are_evaluated_and_compared_on_images_of_a_folder(invoke, other):
    write_images(Path("clinic"), load_phantom_splits((40, 20, 30), seed=7)["test"])
    for name in ("run", "other"):
        evaluated = invoke("eval", name, "--data", "clinic", "--name", "here", "--json")
        assert evaluated.exit_code == 0, evaluated.output
        document = json.loads(evaluated.stdout)
        assert (document["run"], document["split"], document["n"]) == (f"{name}/data/here", "test", 30)
        assert f" Report: {name}/data/here/report.html\n" in evaluated.stderr
    compared = invoke("compare", "run/data/here", "other/data/here")
    assert compared.exit_code == 0, compared.output
    assert compared.stdout.startswith("other/data/here minus run/data/here, split test\n")
    assert not Path("run/scores_test.csv").exists()


@pytest.mark.parametrize("name", ["notes.txt", "notes.png", ".", "roc"])
def test_no_file_of_somebody_else_is_replaced(invoke, run, tmp_path, name):
    for path in (tmp_path / "notes.txt", tmp_path / "notes.png"):
        path.write_text("Ask Anna")
    done = invoke("-q", "compare", "run", "run", "--split", "val", "--out", name)
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit)
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "notes.png").read_text() == "Ask Anna"
