import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import pneumo_keras
from pneumo_keras import backend
from pneumo_keras.cli import main
from pneumo_keras.data.pneumonia_mnist import prepared
from pneumo_keras.recipes import network
from pneumo_keras.recipes import train as train_recipe
from tests.toy import build_toy_backbone

SMALL = ["data.phantom_films=[60,30,40]", "model.taps=['mixed10']", "training.epochs=2"]
OVERRIDES = [argument for setting in SMALL for argument in ("--set", setting)]


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    monkeypatch.setattr(backend, "start_backend", lambda cache: None)  # it has been started

    def run(*arguments):
        return CliRunner().invoke(main, arguments, prog_name="pneumo-keras")

    return run


def test_train_and_eval_print_one_json_document(invoke, tmp_path):
    trained = invoke("train", "--config", "demo", *OVERRIDES, "--run", "run", "--json")
    assert trained.exit_code == 0
    assert json.loads(trained.stdout)["split"] == "val"
    judged = invoke("eval", "run", "--json")
    assert judged.exit_code == 0
    document = json.loads(judged.stdout)
    assert (document["split"], document["n"]) == ("test", 40)
    assert document["tn"] + document["fp"] + document["fn"] + document["tp"] == 40
    metrics = json.loads((tmp_path / "run" / "metrics_test.json").read_text())
    assert metrics["figures"] == document["figures"]


def test_a_run_without_a_name_gets_one_of_config_and_time(invoke, tmp_path):
    assert invoke("-q", "train", "--config", "demo", *OVERRIDES).exit_code == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"demo-\d{8}-\d{6}", run.name)
    judged = invoke("-q", "eval", str(run))
    assert judged.stderr == ""
    assert judged.stdout.startswith(f"{run}, split test\n")
    assert "\nAUC  " in judged.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["train", "--set", "training.epoch=3"],
            "Unknown setting 'training.epoch'. Did you mean 'training.epochs'?",
        ),
        (
            ["train", "--config", "demo", "--set", "model.image_size=60"],
            "Setting 'model.image_size' should be greater than or equal to 75. Received: 60",
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
    monkeypatch.setattr(train_recipe, "load_splits", lambda *_: pytest.fail("work was done"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    result = invoke("-q", "train", "--config", "demo", "--run", "run")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: --run must name a new or empty folder, since a run is never overwritten. run is taken: name "
        "another one, or delete it first.\n",
    )


def test_wrong_usage_is_status_2(invoke):
    assert invoke("trian").exit_code == 2
    assert invoke("eval", "run", "--split", "all").exit_code == 2


def test_ctrl_c_is_status_130(invoke, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_recipe, "load_splits", interrupt)
    result = invoke("-q", "train", "--config", "demo", "--run", "run")
    assert (result.exit_code, result.stderr) == (130, "Stopped.\n")


@pytest.mark.parametrize("name", ["openvino", "numpy"])
def test_a_backend_that_cannot_fit_is_refused(invoke, monkeypatch, name):
    monkeypatch.setattr(backend, "BACKEND", name)
    result = invoke("-q", "train", "--config", "demo")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: pneumo-keras train runs on jax, tensorflow, torch. Received: KERAS_BACKEND={name}\n",
    )


def test_a_backend_that_is_not_installed_is_named_with_its_extra(invoke, monkeypatch):
    monkeypatch.setattr(backend, "BACKEND", "torch")
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    result = invoke("-q", "eval", "run")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: KERAS_BACKEND=torch needs the package torch. Install it with: "
        "pip install 'pneumo-keras[torch]'\n",
    )


def test_config_show_prints_every_setting(invoke):
    result = invoke("config", "show", "demo", "--set", "training.epochs=3")
    assert result.exit_code == 0
    assert "epochs = 3\n" in result.stdout
    assert "[augmentation]\n" in result.stdout


def test_config_list_names_the_configurations(invoke):
    lines = invoke("config", "list").stdout.splitlines()
    assert {"default", "reference", "demo"} <= {line.split()[0] for line in lines}


def test_phantoms_are_written_as_an_archive_to_train_on(invoke):
    written = invoke("data", "phantom", "films.npz", "--train", "20", "--val", "6", "--test", "4")
    assert (written.exit_code, written.stdout) == (0, "films.npz: 30 synthetic films, 28 px\n")
    prepared = invoke("data", "prepare", "--path", "films.npz")
    assert prepared.stdout.startswith("train      20 films: ")


def test_help_needs_no_keras_and_no_jax():
    code = (
        "import sys\n"
        "from pneumo_keras.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'keras', 'jax', 'numpy', 'sklearn', 'matplotlib', 'tensorflow_datasets', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "--config NAME|FILE" in done.stdout


def test_help_is_quick():
    def measure():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pneumo_keras", "--help"], check=True, capture_output=True)
        return time.perf_counter() - started

    assert min(measure() for _ in range(5)) < 0.3


def test_keras_that_was_imported_first_on_another_backend_is_named():
    code = "import keras, pneumo_keras"
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    switch = "import os, keras; os.environ['KERAS_BACKEND'] = 'jax'; import pneumo_keras"
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", switch], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "pneumo_keras.errors.BackendError: keras was imported before pneumo_keras and runs on 'numpy', not "
        "on 'jax'. Import pneumo_keras first, or set KERAS_BACKEND before either."
    )


def test_keras_json_has_no_say(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "numpy", "image_data_format": "channels_first"}')
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    code = (
        "import pneumo_keras.backend as b, pathlib; b.start_backend(pathlib.Path('.')); import keras; "
        "print(keras.config.backend(), keras.config.image_data_format())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "jax channels_last\n"


def test_the_version_is_the_package_s(invoke):
    assert invoke("--version").stdout == f"pneumo-keras, version {pneumo_keras.__version__}\n"


def test_the_cache_is_listed_and_cleared(invoke, own_cache):
    assert invoke("train", "--config", "demo", *OVERRIDES, "--run", "run").exit_code == 0
    lines = invoke("cache", "list").stdout.splitlines()
    assert len(lines) == 3
    assert "60 of 60 films  mixed10, 75 px, view plain" in lines[0]
    assert lines[-1].endswith(f"of features in {own_cache}")
    listed = json.loads(invoke("cache", "list", "--json").stdout)["features"]
    assert [entry["films"] for entry in listed] == [60, 30]
    assert invoke("cache", "clear", "--yes").stdout == f"{own_cache} is empty\n"
    assert invoke("cache", "list").stdout.startswith("0 entries, 0.0 MB")


def test_an_audit_prints_findings_and_writes_its_files(invoke, tmp_path):
    result = invoke("data", "audit", "--config", "demo", *OVERRIDES, "--out", "audit")
    assert result.exit_code == 0
    assert "Findings\n" in result.stdout
    assert {path.name for path in (tmp_path / "audit").iterdir()} == {"audit.json", "audit.txt", "audit.png"}
    document = json.loads(invoke("data", "audit", "--config", "demo", *OVERRIDES, "--json").stdout)
    assert document["findings"]


def test_a_bench_compares_the_engines(invoke):
    result = invoke("bench", "--config", "demo", *OVERRIDES, "--json")
    assert result.exit_code == 0
    engines = {figures["engine"]: figures for figures in json.loads(result.stdout)["engines"]}
    assert engines["keras"]["deviation"] == 0
    assert engines["frozen"]["deviation"] < 1e-5


def test_compare_prints_paired_differences(invoke):
    for name, seed in (("one", "1"), ("two", "2")):
        trained = invoke("train", "--config", "demo", *OVERRIDES, "--set", f"seed={seed}", "--run", name)
        assert trained.exit_code == 0
    text = invoke("compare", "one", "two", "--split", "val").stdout
    assert text.startswith("two minus one, split val\n")
    assert "\nAUC  " in text
    assert "Only the seed differs" in text
    compared = invoke("compare", "one", "two", "one", "--split", "val", "--json", "--out", "roc.png")
    document = json.loads(compared.stdout)
    assert [other["run"] for other in document["others"]] == ["two", "one"]
    auc = document["others"][0]["differences"]["auc"]
    assert auc["low"] <= auc["value"] <= auc["high"]
    assert Path("roc.png").is_file()
    alone = invoke("compare", "one")
    assert (alone.exit_code, "Name two runs or more." in alone.stderr) == (2, True)


def test_nothing_but_eval_on_the_test_split_opens_its_arrays(invoke, monkeypatch, own_cache):
    """Not even once: data audit aside, which compares all splits before any choice is made."""
    opened = []
    read = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(
        np.lib.npyio.NpzFile, "__getitem__", lambda file, key: opened.append(key) or read(file, key)
    )
    decode = prepared._read_films
    monkeypatch.setattr(
        prepared,
        "_read_films",
        lambda source, split, size: opened.append(split) or decode(source, split, size),
    )
    assert (
        invoke("data", "phantom", "films.npz", "--train", "60", "--val", "30", "--test", "40").exit_code == 0
    )
    Path("grid.toml").write_text("[training]\nlearning_rate = [1e-3, 1e-2]\n")
    source = ["--set", "data.source=pneumonia_mnist", "--set", "data.path=films.npz", *OVERRIDES[2:]]
    for command in (
        ["data", "prepare", "--path", "films.npz"],
        ["train", "--config", "demo", *source, "--run", "one", "--set", "evaluation.calibration=platt"],
        ["train", "--config", "demo", *source, "--run", "two", "--set", "training.mode=online"],
        ["eval", "one", "--split", "val"],
        ["eval", "one", "--split", "train"],
        ["eval", "two", "--split", "val", "--prevalence", "0.3"],
        ["compare", "one", "two", "--split", "val"],
        ["sweep", "--config", "demo", *source, "--grid", "grid.toml", "--folds", "3"],
    ):
        result = invoke(*command)
        assert result.exit_code == 0, result.output
    assert {"train_images", "val_labels", "train", "val"} <= set(opened)
    assert not [name for name in opened if name.startswith("test")]
    assert invoke("eval", "one").exit_code == 0
    assert {"test_images", "test_labels", "test"} <= set(opened)


def test_sweep_prints_one_json_document(invoke, tmp_path):
    (tmp_path / "grid.toml").write_text("[training]\nlearning_rate = [1e-3, 1e-2]\n")
    swept = invoke("sweep", "--config", "demo", *OVERRIDES, "--grid", "grid.toml", "--folds", "3", "--json")
    assert swept.exit_code == 0
    document = json.loads(swept.stdout)
    assert len(document["combinations"]) == 2
    assert document["folder"].startswith("sweeps/grid-")
    assert document["combinations"][0]["log_loss"] <= document["combinations"][1]["log_loss"]


def test_a_prevalence_is_a_share(invoke):
    judged = invoke("eval", "run", "--prevalence", "1")
    assert judged.exit_code == 2
    assert "1.0 is not in the range 0<x<1" in judged.stderr


@pytest.mark.parametrize("command", ["", "train", "eval", "compare", "sweep"])
def test_examples_stand_on_lines_of_their_own(invoke, command):
    text = invoke(*command.split(), "--help").stdout
    assert "\\b" not in text and "\b" not in text
    examples = [line for line in text.splitlines() if "pneumo-keras " in line and "Usage" not in line]
    assert len(examples) >= 1
    assert all(line.count("pneumo-keras ") == 1 for line in examples if "(see:" not in line)
