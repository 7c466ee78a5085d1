import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from pneumo_keras.config import load_config
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import DataError, RunError, SettingsError, TrainingError
from pneumo_keras.evaluation.calibration import fit_scaling
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.model.classifier import load_classifier
from pneumo_keras.recipes import evaluate as evaluate_recipe
from pneumo_keras.recipes import network
from pneumo_keras.recipes import train as train_recipe
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.train import train_run
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import load_run
from tests.images import ImageArray, load_phantom_splits
from tests.small import COUNTS, LEARNING, SMALL
from tests.toy import build_toy_backbone


@pytest.mark.usefixtures("warm_cache", "without_plots")
def test_a_run_folder_has_the_files_of_the_design(train):
    folder = train()
    evaluate_run(load_run(folder.path), "test")
    files = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()}
    assert files == {
        "calibration.json",
        "ood_detector.npz",
        "config.toml",
        "environment.json",
        "figures/summary.png",
        "head.npz",
        "history.csv",
        "manifest.sha256",
        "metrics_test.json",
        "metrics_val.json",
        "model.keras",
        "network.onnx",
        "normal_images.npz",
        "operating_point.json",
        "report.html",
        "scores_test.csv",
        "scores_val.csv",
        "seen_images.npy",
        "train.log",
    }
    assert load_config(str(folder.path / "config.toml")) == load_config("demo", SMALL)
    with (folder.path / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert "class weight" in (folder.path / "train.log").read_text()


@pytest.mark.usefixtures("warm_cache")
def test_training_opens_the_test_split_in_neither_mode(toy, train, monkeypatch):
    asked = []
    open_splits = train_recipe.open_splits
    monkeypatch.setattr(
        train_recipe, "open_splits", lambda data, names: asked.extend(names) or open_splits(data, names)
    )
    train("cached")
    train("online", "training.mode=online", "augmentation.views=0")
    assert set(asked) == {"train", "val"}


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("mode", ["cached", "online"])
def test_the_same_command_gives_the_same_bytes(train, mode, own_cache, monkeypatch, tmp_path):
    first = train("first", f"training.mode={mode}")
    evaluate_run(load_run(first.path), "test")
    monkeypatch.setenv("PNEUMO_KERAS_CACHE", str(tmp_path / "another cache"))
    second = train("second", f"training.mode={mode}")
    evaluate_run(load_run(second.path), "test")
    for name in ("scores_val.csv", "scores_test.csv", "history.csv", "metrics_test.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_features_too_large_for_memory_give_the_same_bytes(train, monkeypatch):
    held = train("held", "augmentation.views=2")
    monkeypatch.setattr("pneumo_keras.training.batches.IN_MEMORY", 0)
    read = train("read", "augmentation.views=2")
    assert (held.path / "scores_val.csv").read_bytes() == (read.path / "scores_val.csv").read_bytes()


@pytest.mark.usefixtures("warm_cache")
def test_another_seed_gives_other_scores(train):
    first, second = train("first"), train("second", "seed=7")
    assert (first.path / "scores_val.csv").read_bytes() != (second.path / "scores_val.csv").read_bytes()


@pytest.mark.usefixtures("warm_cache", "without_plots")
@pytest.mark.parametrize(("mode", "outputs"), [("cached", 2), ("online", 1)])
def test_evaluation_sees_the_scores_that_training_saw(train, mode, outputs):
    folder = train("run", f"training.mode={mode}", f"model.outputs={outputs}")
    seen = (folder.path / "scores_val.csv").read_bytes()
    evaluate_run(load_run(folder.path), "val")
    assert (folder.path / "scores_val.csv").read_bytes() == seen


SAVED = {
    "standardised": ["model.standardise=true"],
    "as they are": ["model.standardise=false"],
    "members": ["training.members=3", "evaluation.calibration=platt", LEARNING],
    "mirrored": ["model.flip_average=true", "evaluation.calibration=temperature", LEARNING],
}


@pytest.mark.usefixtures("warm_cache")
@pytest.mark.parametrize("overrides", SAVED.values(), ids=SAVED)
def test_features_and_the_saved_model_give_the_same_scores(train, overrides):
    folder = train("run", *overrides)
    _, scores = load_scores(folder.path / "scores_val.csv")
    images = load_phantom_splits(COUNTS)["val"]
    model = load_classifier(folder.path / "model.keras").join()
    direct = model.predict(images.images[..., None].astype(np.float32), verbose=0)[:, 0]
    np.testing.assert_allclose(direct, scores, atol=1e-5)


@pytest.mark.usefixtures("warm_cache", "without_plots")
def test_every_member_has_its_figures(train):
    folder = train("run", "training.members=3")
    evaluation = evaluate_run(load_run(folder.path), "test")
    classifier = load_classifier(folder.path / "model.keras")
    images = load_phantom_splits(COUNTS)["test"]
    arrays = classifier.frozen.scale(classifier.frozen.resize(images.images[..., None].astype(np.float32)))
    log_odds = np.asarray(classifier.head(classifier.frozen.backbone(arrays)))
    assert log_odds.shape == (40, 3)
    expected = [roc_auc_score(images.labels, member) for member in log_odds.T]
    assert evaluation.members["auc"].values == pytest.approx(expected)
    written = json.loads((folder.path / "metrics_test.json").read_text())["members"]["auc"]
    assert written["values"] == list(evaluation.members["auc"].values)
    assert len(set(expected)) > 1
    with (folder.path / "history.csv").open() as file:
        assert set(next(csv.DictReader(file))) > {"val_loss", "val_loss_1", "val_loss_3"}


def test_calibration_is_fitted_on_validation_images_and_kept_in_the_model(train):
    more = (LEARNING, "data.phantom_images=[200, 80, 2]", "training.epochs=10")
    plain, scaled = train("plain", *more), train("scaled", "evaluation.calibration=platt", *more)
    labels, raw = load_scores(plain.path / "scores_val.csv")
    _, scores = load_scores(scaled.path / "scores_val.csv")
    fitted = fit_scaling("platt", labels, logit(raw))
    written = json.loads((scaled.path / "calibration.json").read_text())
    assert (written["slope"], written["intercept"]) == pytest.approx(
        (fitted.slope, fitted.intercept), rel=1e-4
    )
    np.testing.assert_allclose(scores, fitted.to_scores(logit(raw)), atol=1e-5)
    assert written["prevalence"] == pytest.approx(labels.mean())
    assert json.loads((plain.path / "calibration.json").read_text())["prevalence"] == pytest.approx(0.5)
    assert written["error_after"] < written["error_before"]


@pytest.mark.usefixtures("warm_cache")
def test_a_loss_that_is_no_number_gets_one_line(train):
    with pytest.raises(TrainingError) as caught:
        train("run", "training.learning_rate=1e6", "training.weight_decay=1e6")
    pattern = r"The loss is NaN or infinite, in epoch \d, .*\. Lower training\.learning_rate\."
    assert re.fullmatch(pattern, str(caught.value))


@pytest.mark.usefixtures("warm_cache")
def test_the_frozen_network_in_the_saved_model_is_the_one_that_was_loaded(train):
    keras.utils.set_random_seed(load_config("demo").seed)
    loaded = build_toy_backbone(image_size=75)
    for mode in ("cached", "online"):
        saved = load_classifier(train(mode, f"training.mode={mode}").path / "model.keras").frozen.backbone
        for mine, theirs in zip(saved.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_augmented_views_are_fitted_and_cached(train, caplog):
    train("first", "augmentation.views=2", "augmentation.plain=false")
    with caplog.at_level("INFO", "pneumo_keras"):
        train("second", "augmentation.views=2", "augmentation.plain=false")
    assert (
        "Features of training images of synthetic phantoms, 28 px, augmented view 2 of 2: from the cache"
        in caplog.messages
    )


@pytest.mark.usefixtures("warm_cache")
def test_a_run_is_never_overwritten(train):
    folder = train()
    with pytest.raises(RunError) as caught:
        train()
    assert str(caught.value) == (
        f"--run must name a new or empty folder, since nothing is ever overwritten. {folder.path} is taken: "
        "name another one, or delete it first."
    )


def test_a_failed_run_leaves_nothing_behind(train, tmp_path):
    (tmp_path / "images.npz").write_bytes(b"no npz")
    with pytest.raises(DataError):
        train("run", "data.source=pneumonia_mnist", f"data.path={tmp_path / 'images.npz'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_demo_learns_and_does_not_from_shuffled_labels(tmp_path, without_plots, monkeypatch):
    monkeypatch.setattr(evaluate_recipe, "explain_mistakes", lambda *_: {})  # dozens of maps
    splits = load_phantom_splits((640, 160, 400))
    archive = tmp_path / "images.npz"
    aucs = []
    for shuffle in (None, 1, 2, 3, 4, 5):
        shuffled = dict(splits)
        if shuffle is not None:  # validation images, too: they choose the epoch
            random = np.random.default_rng(shuffle)
            for name in ("train", "val"):
                shuffled[name] = ImageArray(splits[name].images, random.permutation(splits[name].labels))
        save_archive(archive, shuffled)
        overrides = ["data.source=pneumonia_mnist", f"data.path={archive}"]
        folder = RunFolder(tmp_path / f"run-{shuffle}")
        train_run(load_config("demo", overrides), folder)
        evaluate_run(load_run(folder.path), "test")
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
        "from pneumo_keras.runtime.backend import start_backend\n"
        f"start_backend(Path({str(tmp_path)!r}))\n"
        "from pneumo_keras.recipes import evaluate, network, train\n"
        "from pneumo_keras.runs.folder import RunFolder\n"
        "from pneumo_keras.runs.run import load_run\n"
        "from tests.toy import build_toy_backbone\n"
        "from tests.small import SMALL\n"
        "from pneumo_keras.config import load_config\n"
        "network.build_backbone = build_toy_backbone\n"
        f"folder = RunFolder(Path({str(tmp_path / 'run')!r}))\n"
        "train.train_run(load_config('demo', SMALL), folder)\n"
        "evaluate.evaluate_run(load_run(folder.path), 'test')\n"
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


def test_validation_images_pass_the_network_once_and_are_asked_for_once(train, caplog):
    with caplog.at_level("INFO", "pneumo_keras"):
        train()
    lines = [line for line in caplog.messages if line.startswith("Features of validation images")]
    assert len(lines) == 1


def test_a_small_cache_suffices_for_a_training(train):
    """Validation features evicted those of the training images before the head was fitted."""
    need = (60 + 30) * 6 * 4
    folder = train("run", f"compute.cache_gigabytes={(need + 300) / 1e9}")
    assert (folder.path / "model.keras").is_file()


def test_features_that_exceed_the_cache_are_refused_before_any_work(train, monkeypatch):
    monkeypatch.setattr(network, "build_runner", lambda *_, **__: pytest.fail("the network was run"))
    with pytest.raises(SettingsError, match=r"compute\.cache_gigabytes must be at least"):
        train("run", "augmentation.views=10", "compute.cache_gigabytes=1e-6")


def test_a_relabelled_data_set_has_another_provenance(train, own_file, tmp_path):
    path, overrides = own_file
    first = train("first", *overrides)
    splits = load_phantom_splits(COUNTS)
    labels = splits["train"].labels.copy()
    labels[[0, 1]] = labels[[1, 0]]
    save_archive(path, {**splits, "train": ImageArray(splits["train"].images, labels)})
    second = train("second", *overrides)
    one, other = (
        json.loads((folder.path / "environment.json").read_text())["images"]["train"]
        for folder in (first, second)
    )
    assert one["sha256"] == other["sha256"]
    assert one["labels_sha256"] != other["labels_sha256"]


def test_images_that_are_not_held_in_memory_are_never_read_all_at_once(train, monkeypatch):
    """Neither by the fit on features nor by that on images."""
    sizes = []
    read = PhantomImages.read
    monkeypatch.setattr(
        PhantomImages,
        "read",
        lambda images, rows: sizes.append(len(read(images, rows))) or read(images, rows),
    )
    for mode in ("cached", "online"):
        train(mode, f"training.mode={mode}", "data.phantom_images=[400, 300, 40]")
    assert max(sizes) <= 256


@pytest.fixture
def swapped_validation(tmp_path):
    """Images whose validation labels are swapped, and the settings that name them."""
    splits = load_phantom_splits((120, 100, 40))
    path = tmp_path / "swapped.npz"
    save_archive(path, {**splits, "val": replace(splits["val"], labels=1 - splits["val"].labels)})
    settings = ["data.source=pneumonia_mnist", f"data.path={path}", LEARNING, "training.epochs=30"]
    return [*settings, "training.schedule=cosine"]  # which keeps the last epoch


def test_swapped_validation_labels_are_warned_about_after_a_training(train, swapped_validation, caplog):
    folder = train("run", *swapped_validation)
    (line,) = [line for line in caplog.messages if "backwards" in line]
    assert line.startswith("validation images of ")
    assert line in (folder.path / "train.log").read_text()


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_swapped_validation_labels_calibrate_nothing(train, swapped_validation, method):
    with pytest.raises(DataError, match=f"evaluation.calibration = '{method}' must find scores that rise"):
        train("run", *swapped_validation, f"evaluation.calibration={method}")
