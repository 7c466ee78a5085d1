import csv
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from pneumo_keras.config import load_config
from pneumo_keras.data.films import FilmArray
from pneumo_keras.data.phantom import build_phantom_films
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import DataError, RunError, TrainingError
from pneumo_keras.evaluation.calibration import fit_platt
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.model.classifier import load_classifier
from pneumo_keras.recipes import heads, network
from pneumo_keras.recipes import train as train_recipe
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.films import PHANTOM_SEEDS
from pneumo_keras.recipes.sweep import sweep_settings
from pneumo_keras.recipes.train import train_run
from pneumo_keras.runs.folder import RunFolder
from tests.toy import build_toy_backbone

SMALL = [
    "data.phantom_films=[60, 30, 40]",
    "model.taps=['mixed10']",
    "training.epochs=2",
    "model.hidden_units=4",
]


@pytest.fixture
def toy(monkeypatch):
    """The recipes with a small network in place of InceptionV3."""
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)


@pytest.fixture
def train(toy, tmp_path):
    def run(name="run", *overrides):
        folder = RunFolder(tmp_path / name)
        train_run(load_config("demo", [*SMALL, *overrides]), folder)
        return folder

    return run


def test_a_run_folder_holds_what_the_design_names(train):
    folder = train()
    evaluate_run(folder, "test")
    files = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()}
    (medmnist,) = (name for name in files if name.startswith("pneumoniamnist_test_[AUC]"))
    assert medmnist.endswith("@run.csv")
    assert files - {medmnist} == {
        "calibration.json",
        "config.toml",
        "environment.json",
        "figures/summary.png",
        "history.csv",
        "metrics_test.json",
        "metrics_val.json",
        "model.keras",
        "operating_point.json",
        "report.html",
        "scores_test.csv",
        "scores_val.csv",
        "train.log",
    }
    assert load_config(str(folder.path / "config.toml")) == load_config("demo", SMALL)
    with (folder.path / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert "class weight" in (folder.path / "train.log").read_text()


def test_training_opens_the_test_split_in_neither_mode(toy, train, monkeypatch):
    asked = []
    load_splits = train_recipe.load_splits
    monkeypatch.setattr(
        train_recipe,
        "load_splits",
        lambda config, splits: asked.extend(splits) or load_splits(config, splits),
    )
    train("cached")
    train("online", "training.mode=online", "augmentation.views=0")
    assert set(asked) == {"train", "val"}


@pytest.mark.parametrize("mode", ["cached", "online"])
def test_the_same_command_gives_the_same_bytes(train, mode, own_cache, monkeypatch, tmp_path):
    first = train("first", f"training.mode={mode}")
    evaluate_run(first, "test")
    monkeypatch.setenv("PNEUMO_KERAS_CACHE", str(tmp_path / "another cache"))
    second = train("second", f"training.mode={mode}")
    evaluate_run(second, "test")
    for name in ("scores_val.csv", "scores_test.csv", "history.csv", "metrics_test.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_features_too_large_for_memory_give_the_same_bytes(train, monkeypatch):
    held = train("held", "augmentation.views=2")
    monkeypatch.setattr(heads, "IN_MEMORY", 0)
    read = train("read", "augmentation.views=2")
    assert (held.path / "scores_val.csv").read_bytes() == (read.path / "scores_val.csv").read_bytes()


def test_another_seed_gives_other_scores(train):
    first, second = train("first"), train("second", "seed=7")
    assert (first.path / "scores_val.csv").read_bytes() != (second.path / "scores_val.csv").read_bytes()


@pytest.mark.parametrize("mode", ["cached", "online"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_evaluation_sees_the_scores_that_training_saw(train, mode, outputs):
    folder = train("run", f"training.mode={mode}", f"model.outputs={outputs}")
    seen = (folder.path / "scores_val.csv").read_bytes()
    evaluate_run(folder, "val")
    assert (folder.path / "scores_val.csv").read_bytes() == seen


SAVED = {
    "standardised": ["model.standardise=true"],
    "as they are": ["model.standardise=false"],
    "members": ["training.members=3", "evaluation.calibration=platt"],
    "mirrored": ["model.flip_average=true", "evaluation.calibration=temperature"],
}


@pytest.mark.parametrize("overrides", SAVED.values(), ids=SAVED)
def test_features_and_the_saved_model_give_the_same_scores(train, overrides):
    folder = train("run", *overrides)
    _, scores = load_scores(folder.path / "scores_val.csv")
    films = build_phantom_films(30, size=28, seed=PHANTOM_SEEDS["val"])
    model = load_classifier(folder.model_file).model
    direct = model.predict(films.images[..., None].astype(np.float32), verbose=0)[:, 0]
    np.testing.assert_allclose(direct, scores, atol=1e-5)


def test_members_have_figures_of_their_own(train):
    folder = train("run", "training.members=3")
    judgement = evaluate_run(folder, "test")
    classifier = load_classifier(folder.model_file)
    films = build_phantom_films(40, size=28, seed=PHANTOM_SEEDS["test"])
    images = classifier.scale(classifier.resize(films.images[..., None].astype(np.float32)))
    log_odds = np.asarray(classifier.head(classifier.backbone(images)))
    assert log_odds.shape == (40, 3)
    expected = [roc_auc_score(films.labels, member) for member in log_odds.T]
    assert judgement.members["auc"].values == pytest.approx(expected)
    written = json.loads((folder.path / "metrics_test.json").read_text())["members"]["auc"]
    assert written["values"] == list(judgement.members["auc"].values)
    assert len(set(expected)) > 1
    with (folder.path / "history.csv").open() as file:
        assert set(next(csv.DictReader(file))) > {"val_loss", "val_loss_1", "val_loss_3"}


def test_calibration_is_fitted_on_validation_films_and_kept_in_the_model(train):
    plain, scaled = train("plain"), train("scaled", "evaluation.calibration=platt")
    labels, raw = load_scores(plain.path / "scores_val.csv")
    _, scores = load_scores(scaled.path / "scores_val.csv")
    fitted = fit_platt(labels, logit(raw))
    written = json.loads((scaled.path / "calibration.json").read_text())
    assert (written["slope"], written["intercept"]) == pytest.approx(
        (fitted.slope, fitted.intercept), rel=1e-4
    )
    np.testing.assert_allclose(scores, fitted.to_scores(logit(raw)), atol=1e-5)
    assert written["prevalence"] == pytest.approx(labels.mean())
    assert json.loads((plain.path / "calibration.json").read_text())["prevalence"] == pytest.approx(0.5)
    assert written["calibration_error"]["after"] < written["calibration_error"]["before"]


def test_a_stated_prevalence_moves_scores_and_threshold_together(train):
    folder = train("run", "evaluation.rule=youden")
    before = evaluate_run(folder, "test").evaluation
    _, scores = load_scores(folder.path / "scores_test.csv")
    after = evaluate_run(folder, "test", prevalence=0.1).evaluation
    _, corrected = load_scores(folder.path / "scores_test.csv")
    np.testing.assert_allclose(logit(corrected), logit(scores) + logit(0.1) - logit(0.5), atol=1e-4)
    assert after.counts == before.counts
    assert after.figures["auc"].value == before.figures["auc"].value
    assert after.figures["brier_loss"].value != before.figures["brier_loss"].value
    assert json.loads((folder.path / "metrics_test.json").read_text())["stated_prevalence"] == 0.1


def test_a_loss_that_is_no_number_gets_one_line(train):
    with pytest.raises(TrainingError) as caught:
        train("run", "training.learning_rate=1e30")
    assert str(caught.value) == (
        "The loss is no longer a number. Lower training.learning_rate, or check model.weights."
    )


def test_the_frozen_network_in_the_saved_model_is_the_one_that_was_loaded(train):
    keras.utils.set_random_seed(load_config("demo").seed)
    loaded = build_toy_backbone(image_size=75)
    for mode in ("cached", "online"):
        saved = load_classifier(train(mode, f"training.mode={mode}").model_file).backbone
        for mine, theirs in zip(saved.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_augmented_views_are_fitted_and_cached(train, caplog):
    train("first", "augmentation.views=2", "augmentation.plain=false")
    with caplog.at_level("INFO", "pneumo_keras"):
        train("second", "augmentation.views=2", "augmentation.plain=false")
    assert "Features of training films, augmented view 2 of 2: from the cache" in caplog.messages


def test_the_operating_point_of_the_run_is_applied(train):
    folder = train("run", "evaluation.rule=fixed", "evaluation.threshold=0.7")
    evaluation = evaluate_run(folder, "test").evaluation
    assert evaluation.threshold == 0.7
    metrics = json.loads((folder.path / "metrics_test.json").read_text())
    labels, scores = load_scores(folder.path / "scores_test.csv")
    assert metrics["tp"] == int(((scores > 0.7) & (labels == 1)).sum())
    assert metrics["at_0.5"]["tp"] == int(((scores > 0.5) & (labels == 1)).sum())


def test_a_run_is_never_overwritten(train):
    folder = train()
    with pytest.raises(RunError) as caught:
        train()
    assert str(caught.value) == (
        f"--run must name a new or empty folder, since nothing is ever overwritten. {folder.path} is taken: "
        "name another one, or delete it first."
    )


def test_a_failed_run_leaves_nothing_behind(train, tmp_path):
    (tmp_path / "films.npz").write_bytes(b"no npz")
    with pytest.raises(DataError):
        train("run", "data.source=pneumonia_mnist", f"data.path={tmp_path / 'films.npz'}")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_gets_one_line(tmp_path):
    with pytest.raises(RunError) as caught:
        evaluate_run(RunFolder(tmp_path), "test")
    assert str(caught.value) == (
        f"RUN must be the folder of a run, with a config.toml. {tmp_path} is none: train one with "
        f"pneumo-keras train --run {tmp_path}"
    )


def test_an_unfinished_run_gets_one_line(train):
    folder = train()
    folder.model_file.unlink()
    with pytest.raises(RunError) as caught:
        evaluate_run(folder, "test")
    assert str(caught.value) == (
        f"{folder.path} holds a run that was not finished: it has no model.keras. Delete it and train again."
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_medmnist_reads_our_scores_and_agrees(train, split):
    from medmnist.evaluator import getACC, getAUC

    folder = train()
    evaluation = evaluate_run(folder, split).evaluation
    (path,) = folder.path.glob(f"pneumoniamnist_{split}_*@run.csv")
    films = build_phantom_films(40 if split == "test" else 30, size=28, seed=PHANTOM_SEEDS[split])
    scores = np.loadtxt(path, delimiter=",")[:, 1:]
    auc, accuracy = evaluation.figures["auc"].value, evaluation.figures["accuracy"].value
    assert getAUC(films.labels[:, None], scores, "binary-class") == pytest.approx(auc, abs=1e-12)
    assert getACC(films.labels[:, None], scores, "binary-class") == pytest.approx(accuracy, abs=1e-12)


@pytest.mark.slow
def test_the_demo_learns_and_does_not_from_shuffled_labels(tmp_path):
    splits = {
        split: build_phantom_films(n, size=28, seed=seed)
        for (split, seed), n in zip(PHANTOM_SEEDS.items(), (640, 160, 400), strict=True)
    }
    archive = tmp_path / "films.npz"
    aucs = []
    for shuffle in (None, 1, 2, 3, 4, 5):
        train = splits["train"]
        if shuffle is not None:
            train = FilmArray(train.images, np.random.default_rng(shuffle).permutation(train.labels))
        save_archive(archive, {**splits, "train": train})
        overrides = ["data.source=pneumonia_mnist", f"data.path={archive}"]
        folder = RunFolder(tmp_path / f"run-{shuffle}")
        train_run(load_config("demo", overrides), folder)
        evaluate_run(folder, "test")
        aucs.append(roc_auc_score(*load_scores(folder.path / "scores_test.csv")))
    assert 0.75 < aucs[0] < 0.999
    assert abs(np.mean(aucs[1:]) - 0.5) < 0.1


def test_neither_tensorflow_nor_torch_is_imported_under_jax(tmp_path):
    for name in ("tensorflow", "torch"):  # importable, and harmless
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pneumo_keras.backend import start_backend\n"
        f"start_backend(Path({str(tmp_path)!r}))\n"
        "from pneumo_keras.recipes import evaluate, network, train\n"
        "from pneumo_keras.runs.folder import RunFolder\n"
        "from tests.toy import build_toy_backbone\n"
        "from tests.test_recipes import SMALL\n"
        "from pneumo_keras.config import load_config\n"
        "network.build_backbone = build_toy_backbone\n"
        f"folder = RunFolder(Path({str(tmp_path / 'run')!r}))\n"
        "train.train_run(load_config('demo', SMALL), folder)\n"
        "evaluate.evaluate_run(folder, 'test')\n"
        "print(sorted({'tensorflow', 'torch'} & set(sys.modules)))\n"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_two_runs_are_compared_on_the_same_films(train):
    first, second = train("first"), train("second", "seed=7")
    picture = first.path / "roc.png"
    nothing, differences = compare_runs(first, [first, second], "val", picture)
    assert nothing["auc"].value == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    labels, scores = load_scores(first.path / "scores_val.csv")
    _, others = load_scores(second.path / "scores_val.csv")
    expected = roc_auc_score(labels, others) - roc_auc_score(labels, scores)
    assert differences["auc"].value == pytest.approx(expected, abs=1e-12)
    assert differences["auc"].low <= expected <= differences["auc"].high


def test_runs_on_different_films_are_not_compared(train):
    first, second = train("first"), train("second", "data.phantom_films=[60, 32, 40]")
    with pytest.raises(RunError) as caught:
        compare_runs(first, [second], "val")
    assert str(caught.value) == (
        f"Runs can be compared on the same films alone. {first.path} and {second.path} were scored on "
        "different validation films."
    )


SWEEP_FILES = {"best.toml", "simplest.toml", "sweep.csv", "sweep.png"}
GRID = {
    "model.taps": [["mixed10"], ["mixed4", "mixed10"]],
    "augmentation.views": [0, 1],
    "training.learning_rate": [1e-3, 1e-2],
}


def test_a_sweep_judges_every_combination_on_films_it_has_not_seen(toy, tmp_path):
    config = load_config("demo", [*SMALL, "model.flip_average=true"])
    ranked = sweep_settings(config, GRID, tmp_path / "sweep", folds=3)
    assert len(ranked) == 8
    assert len({json.dumps(candidate.values) for candidate in ranked}) == 8
    assert all(len(candidate.figures["auc"]) == 3 for candidate in ranked)
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == SWEEP_FILES
    best = load_config(str(tmp_path / "sweep" / "best.toml"))
    assert list(best.model.taps) == ranked[0].values["model.taps"]
    assert best.training.epochs == config.training.epochs
    again = sweep_settings(config, GRID, tmp_path / "again", folds=3)
    assert [one.to_row() for one in again] == [one.to_row() for one in ranked]
