import json
import shutil
from pathlib import Path

import pytest

from pneumo_keras.runs.folder import RunFolder, extend_manifest
from tests.cli.test_eval import probe
from tests.images import load_phantom_splits, write_images


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
