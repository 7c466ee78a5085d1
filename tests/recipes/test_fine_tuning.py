import csv
import json
import logging

import keras
import numpy as np
import pytest

from pneumo_keras.config import load_config
from pneumo_keras.data.decoding import decode_file
from pneumo_keras.errors import SettingsError, TrainingError
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.exports.forms import choose_files
from pneumo_keras.features.store import list_entries
from pneumo_keras.model.backbone import cut_backbone
from pneumo_keras.model.classifier import load_classifier
from pneumo_keras.model.fingerprint import compute_fingerprint
from pneumo_keras.recipes import network
from pneumo_keras.recipes import train as train_recipe
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.explain import build_image_explainer, explain_files
from pneumo_keras.recipes.export import export_run
from pneumo_keras.recipes.predict import build_scorer
from pneumo_keras.recipes.train import train_run
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import load_run
from pneumo_keras.runtime.signals import Stopped
from tests.images import load_phantom_splits, write_images
from tests.small import COUNTS, LEARNING, SMALL
from tests.stops import stop_after
from tests.toy import build_branched_backbone

TUNED = [
    'model.feature_layers=["mixed0", "mixed10"]',
    "training.unfreeze_from=mixed10",
    "training.unfrozen_epochs=3",
    "training.unfrozen_learning_rate=1e-2",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Features and activations that tests leave for each other."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(monkeypatch, tmp_path, cache):
    monkeypatch.setattr(network, "build_backbone", build_branched_backbone)
    monkeypatch.setenv("PNEUMO_KERAS_CACHE", str(cache))

    def run(name="run", *overrides, resume=False):
        folder = RunFolder(tmp_path / name)
        train_run(load_config("demo", [*SMALL, *TUNED, *overrides]), folder, resume=resume)
        return folder

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    """One that tests share: they change none of its files."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(network, "build_backbone", build_branched_backbone)
        patched.setenv("PNEUMO_KERAS_CACHE", str(cache))
        folder = RunFolder(tmp_path_factory.mktemp("shared") / "run")
        train_run(load_config("demo", [*SMALL, *TUNED]), folder)
    return folder


def read_history(folder):
    with (folder.path / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def read_environment(folder):
    return json.loads((folder.path / "environment.json").read_text())


def load_loaded():
    return build_branched_backbone(image_size=75, feature_layers=("mixed0", "mixed10"))


def test_nothing_below_the_cut_moves_and_the_convolutions_above_do(run):
    saved = load_classifier(run.path / "model.keras").frozen.backbone
    loaded = load_loaded()
    below = {layer.name for layer in cut_backbone(loaded, "mixed10").lower.layers}
    moved = []
    for mine, theirs in zip(saved.layers, loaded.layers, strict=True):
        same = [np.array_equal(a, b) for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True)]
        if isinstance(mine, keras.layers.Conv2D) and theirs.name not in below:
            moved += [not one for one in same]
        else:  # BatchNorm above the cut, too
            assert all(same)
    assert moved == [True] * 3


def test_history_and_provenance_record_both_phases(run):
    rows = read_history(run)
    assert [(row["epoch"], row["phase"]) for row in rows] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]
    assert [row["learning_rate"] for row in rows[1:3]] == pytest.approx([1e-3, 1e-2])
    (kept,) = [row for row in rows if row["kept"]]
    assert kept["phase"] == 2
    assert kept["val_loss"] == min(row["val_loss"] for row in rows)
    about = read_environment(run)
    classifier = load_classifier(run.path / "model.keras")
    assert about["weights_sha256"] == compute_fingerprint(load_loaded())
    assert about["fine_tuned_weights_sha256"] == compute_fingerprint(classifier.frozen.backbone)
    assert about["weights_sha256"] != about["fine_tuned_weights_sha256"]
    assert load_run(run.path).history == rows


def test_the_saved_model_scores_as_the_fit_did(train):
    overrides = ["model.flip_average=true", "evaluation.calibration=platt", LEARNING]
    folder = train("run", "compute.engine=keras", *overrides)
    _, scores = load_scores(folder.path / "scores_val.csv")
    images = load_phantom_splits(COUNTS)["val"]
    model = load_classifier(folder.path / "model.keras").join()
    direct = model.predict(images.images[..., None].astype(np.float32), verbose="0")[:, 0]
    np.testing.assert_allclose(direct, scores, atol=1e-6)


def test_the_validation_loss_of_the_fit_is_that_of_the_saved_model(run):
    labels, scores = load_scores(run.path / "scores_val.csv")
    loss = -np.log(np.where(labels == 1, scores, 1 - scores)).mean()
    assert loss == pytest.approx(min(row["val_loss"] for row in read_history(run)), rel=1e-5)


def test_evaluation_sees_the_scores_that_training_saw(run, cache, monkeypatch):
    monkeypatch.setenv("PNEUMO_KERAS_CACHE", str(cache))
    seen = (run.path / "scores_val.csv").read_bytes()
    evaluate_run(load_run(run.path), "val")
    assert (run.path / "scores_val.csv").read_bytes() == seen
    page = (run.path / "report_val.html").read_text()
    assert "blocks from <b>mixed10</b> on were trained further, at a learning rate of 0.01" in page
    assert "The epoch was chosen on these images" in page


def test_the_frozen_head_is_kept_where_no_epoch_is_better(train, caplog, tmp_path):
    head = ["training.epochs=12", "training.learning_rate=3e-2"]
    with caplog.at_level(logging.INFO, "pneumo_keras"):
        folder = train("run", *head, "training.unfrozen_learning_rate=10", "training.unfrozen_epochs=1")
    rows = read_history(folder)
    best = min(row["val_loss"] for row in rows[:12])
    assert len(rows) == 13
    assert rows[12]["val_loss"] > best
    assert [row["epoch"] for row in rows if row["kept"]] == [
        next(row["epoch"] for row in rows if row["val_loss"] == best)
    ]
    assert any(line.startswith("No epoch had a lower validation loss") for line in caplog.messages)
    about = read_environment(folder)
    assert about["weights_sha256"] == about["fine_tuned_weights_sha256"]
    plain = RunFolder(tmp_path / "plain")
    train_run(load_config("demo", [*SMALL, TUNED[0], *head]), plain)
    assert (folder.path / "scores_val.csv").read_bytes() == (plain.path / "scores_val.csv").read_bytes()


def test_the_head_is_fitted_as_it_is_without_fine_tuning(run, train, tmp_path):
    plain = RunFolder(tmp_path / "plain")
    train_run(load_config("demo", [*SMALL, TUNED[0]]), plain)
    rows = read_history(run)[:2]
    for row, other in zip(rows, read_history(plain), strict=True):
        del row["phase"], row["kept"], other["kept"]
        assert row == other
    assert "fine_tuned_weights_sha256" not in read_environment(plain)


def stop_in_second_phase(monkeypatch, batches):
    """Asks for a stop in the second phase, after so many of its batches."""
    fine_tune = train_recipe.fine_tune

    def tune_and_stop(*arguments):
        stop_after(monkeypatch, batches, 15)
        return fine_tune(*arguments)

    monkeypatch.setattr(train_recipe, "fine_tune", tune_and_stop)


def test_a_training_stopped_in_the_second_phase_goes_on_to_the_same_bytes(train, monkeypatch, caplog):
    whole = train("whole")
    for batches, resume in ((2, False), (4, True), (1, True)):
        with monkeypatch.context() as patched:
            stop_in_second_phase(patched, batches)
            with pytest.raises(Stopped):
                train("run", resume=resume)
    caplog.clear()
    with caplog.at_level(logging.INFO, "pneumo_keras"):
        folder = train("run", resume=True)
    going_on = [line for line in caplog.messages if line.startswith("Continuing")]
    assert going_on == ["Continuing after epoch 2, batch 0", "Continuing after epoch 2, batch 2"]
    for name in ("history.csv", "scores_val.csv", "ood_detector.npz", "operating_point.json"):
        assert (folder.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert read_environment(folder)["classifier_sha256"] == read_environment(whole)["classifier_sha256"]
    assert not list(folder.path.glob("checkpoint*"))


def test_the_same_command_gives_the_same_bytes_and_finds_its_activations(train, caplog, monkeypatch):
    first = train("first", "augmentation.views=2")
    monkeypatch.setattr("pneumo_keras.training.batches.IN_MEMORY", 0)
    caplog.clear()
    with caplog.at_level(logging.INFO, "pneumo_keras"):
        second = train("second", "augmentation.views=2")
    assert not [line for line in caplog.messages if "computed in" in line]
    for name in ("history.csv", "scores_val.csv"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_activations_are_kept_with_features_and_shared(train, own_cache, monkeypatch):
    monkeypatch.setenv("PNEUMO_KERAS_CACHE", str(own_cache))
    train("first")
    kept = {(entry.about["feature_layer"], entry.n) for entry in list_entries(own_cache)}
    assert kept == {(feature_layer, n) for feature_layer in ("cut", "mixed0", "mixed10") for n in (60, 30)}
    before = len(list_entries(own_cache))
    train("second", 'model.feature_layers=["mixed10"]', "training.unfrozen_learning_rate=1e-3", "seed=7")
    found = list_entries(own_cache)
    # Of the network with other weights above the cut, and nothing else.
    assert len(found) == before + 2
    assert {entry.about["feature_layer"] for entry in found[-2:]} == {"mixed10"}


def test_room_for_everything_is_checked_before_any_work(train, own_cache, monkeypatch):
    monkeypatch.setenv("PNEUMO_KERAS_CACHE", str(own_cache))
    need = {"cut": 19 * 19 * 7, "mixed0": 7, "mixed10": 7}
    numbers = 90 * (need["cut"] + need["mixed0"] + 2 * need["mixed10"])
    assert train("enough", f"compute.cache_gigabytes={(4 * numbers + 5000) / 1e9}")
    monkeypatch.setattr(network, "build_runner", lambda *_, **__: pytest.fail("the network was run"))
    with pytest.raises(SettingsError, match=r"compute\.cache_gigabytes must be at least"):
        train("little", f"compute.cache_gigabytes={(4 * numbers - 1000) / 1e9}")


def test_a_loss_that_is_no_number_names_the_rate_of_the_second_phase(train):
    with pytest.raises(TrainingError, match=r"Lower training\.unfrozen_learning_rate\."):
        train("run", "training.unfrozen_learning_rate=1e6", "training.unfrozen_epochs=20")


def test_a_fine_tuned_run_is_used_as_any_other(run, train, tmp_path):
    images = load_phantom_splits(COUNTS)["val"]
    write_images(tmp_path / "images", images)
    paths = sorted((tmp_path / "images").rglob("*.png"), key=lambda path: path.name)
    _, scores = load_scores(run.path / "scores_val.csv")
    finished = load_run(run.path)
    decoded = [decode_file(str(path), finished.preparation) for path in paths]
    scored = list(build_scorer(finished).score(decoded))
    np.testing.assert_allclose([image.probability for image in scored], scores, atol=1e-5)
    explained = list(
        explain_files(build_image_explainer(load_run(run.path)), [str(paths[0])], tmp_path / "explained")
    )
    assert explained[0].scored.probability == pytest.approx(scores[0], abs=1e-5)
    (comparison,) = compare_runs(run, [train("other", "seed=7")], "val")
    assert set(comparison.changed) == {"seed"}


def test_an_export_records_the_fine_tuned_weights(run):
    pytest.importorskip("onnxruntime")
    export_run(load_run(run.path), "onnx", *choose_files(run.path, "onnx", None))
    sidecar = json.loads((run.path / "exports" / "model.onnx.json").read_text())
    noted = sidecar["fingerprints"]["fine_tuned_weights_sha256"]
    assert noted == read_environment(run)["fine_tuned_weights_sha256"]
