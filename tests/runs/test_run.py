import math

import keras
import numpy as np
import pytest

from pneumo_keras.config import load_config
from pneumo_keras.errors import ModelError, RunError
from pneumo_keras.runs.folder import RunFolder, extend_manifest
from pneumo_keras.runs.run import ScoredImage, choose_normal_images, load_run, to_warning

CONFIG = load_config("demo")
HISTORY = [
    {"epoch": 1, "loss": 0.7, "accuracy": 0.6, "val_loss": 0.6, "val_accuracy": 0.7, "kept": 0},
    {"epoch": 2, "loss": 0.6, "accuracy": 0.7, "val_loss": 0.5, "val_accuracy": 0.8, "kept": 1},
]
POINT = {
    "threshold": 0.5,
    "rule": "fixed",
    "demand": {"threshold": 0.5},
    "chosen_on": "val",
    "counts": {"tn": 3, "fp": 1, "fn": 0, "tp": 0},
    "sensitivity": None,
    "specificity": 0.75,
}
CALIBRATION = {
    "slope": 1.0,
    "intercept": 0.0,
    "method": "none",
    "fitted_on": "val",
    "prevalence": 0.5,
    "error_before": 0.1,
    "error_after": 0.1,
}
ENVIRONMENT = {
    "images": {
        "train": {"sha256": "a", "labels_sha256": "b", "class_counts": [2, 6]},
        "val": {"sha256": "c", "labels_sha256": "d", "class_counts": [4, 0]},
    },
    "data": {"title": "", "notice": "", "files": {}, "preparation": {"size": 28, "jpeg_quality": 75}},
    "paths": {},
    "class_weights": {"0": 2.0, "1": 2 / 3},
    "packages": {},
    "weights_sha256": "e",
    "feature_layers": {},
    "classifier_sha256": "f",
}
FILES = ["config.toml", "history.csv", "operating_point.json", "calibration.json", "environment.json"]


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.writing(CONFIG, {}):
        folder.write_table("history.csv", HISTORY)
        folder.write_json("operating_point.json", POINT)
        folder.write_json("calibration.json", CALIBRATION)
        folder.write_json("environment.json", ENVIRONMENT)
        folder.write_with("model.keras", lambda path: path.write_bytes(b"model"))
        folder.write_with(
            "normal_images.npz", lambda path: np.savez(path, images=np.zeros((2, 28, 28), "u1"))
        )
        folder.write_with("seen_images.npy", lambda path: np.save(path, np.array([3, 5], "u8")))
    return folder


def read_message(path):
    with pytest.raises(RunError) as caught:
        load_run(path)
    return str(caught.value).removeprefix(f"{path}/")


def test_a_finished_run_is_loaded_whole(folder):
    run = load_run(folder.path)
    assert (run.name, run.config, run.history) == ("run", CONFIG, HISTORY)
    assert run.operating_point.counts.tn == 3
    assert math.isnan(run.operating_point.sensitivity)
    assert run.calibration.prevalence == 0.5
    assert (run.preparation.size, run.preparation.jpeg_quality) == (28, 75)
    assert run.normal_images.shape == (2, 28, 28)
    assert run.seen_images.tolist() == [3, 5]


def test_another_prevalence_corrects_the_threshold_together_with_the_scores(folder):
    run = load_run(folder.path)
    assert run.to_prevalence(None) == (None, run.operating_point)
    shift, point = run.to_prevalence(0.1)
    assert shift is not None
    assert point.threshold == pytest.approx(shift.correct_threshold(0.5)) == pytest.approx(0.1)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    assert "must be the folder of a run" in read_message(tmp_path)


def test_an_unfinished_run_is_refused(folder):
    (folder.path / "manifest.sha256").unlink()
    (folder.path / "unfinished.json").touch()
    assert read_message(folder.path) == (
        f"{folder.path} holds a run that was not finished. Continue it: pneumo-keras train --run "
        f"{folder.path} --resume, or delete it."
    )


def test_a_run_without_its_manifest_is_no_unfinished_one(folder):
    """What --resume would have trained over."""
    (folder.path / "manifest.sha256").unlink()
    assert not folder.is_begun()
    assert read_message(folder.path) == (
        f"{folder.path} is not a finished run: it must have a manifest.sha256 that names model.keras. It may "
        "be of an earlier version, or only a part of a run. Train into another folder."
    )


def test_a_run_that_is_being_trained_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.writing(CONFIG, {}):
        assert "is being trained: wait until it is" in read_message(folder.path)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_and_its_file_named(folder, name):
    data = bytearray((folder.path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder.path / name).write_bytes(data)
    assert read_message(folder.path).startswith(
        f"{name} is damaged or was changed: it must have the checksum in manifest.sha256"
    )


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_named(folder, name):
    (folder.path / name).unlink()
    assert (
        read_message(folder.path)
        == f"{name} cannot be read: No such file or directory. Train or evaluate again."
    )


@pytest.mark.parametrize("name", ["normal_images", "seen_images", "ood_detector", "classifier"])
def test_what_is_loaded_later_is_verified_too(folder, name):
    run = load_run(folder.path)
    for file in folder.path.iterdir():
        file.unlink()
    with pytest.raises(RunError, match="is missing"):
        getattr(run, name)


@pytest.mark.parametrize("name", ["operating_point.json", "calibration.json"])
@pytest.mark.parametrize("text", ["{}", "no json", '{"slope": "steep", "threshold": "high"}'])
def test_a_document_of_another_version_gets_one_line_that_names_it(folder, name, text):
    (folder.path / name).write_text(text)
    extend_manifest(folder.path, [name])
    line = read_message(folder.path)
    assert line.startswith(f"{name} is damaged: ") and "\n" not in line


def test_settings_of_another_version_get_one_line_with_the_file(folder):
    (folder.path / "config.toml").write_text("[training]\nepoch = 3\n")
    extend_manifest(folder.path, ["config.toml"])
    assert read_message(folder.path) == (
        "config.toml is of another version. Unknown setting 'training.epoch'. Did you mean 'training.epochs'?"
    )


def test_a_classifier_that_is_not_the_trained_one_is_refused(toy_run):
    assert load_run(toy_run).classifier
    model = keras.saving.load_model(toy_run / "model.keras", compile=False)
    (kernel, *_) = model.get_layer("head").trainable_variables
    kernel.assign(kernel * 1.001)
    model.save(toy_run / "model.keras")
    extend_manifest(toy_run, ["model.keras"])
    with pytest.raises(
        ModelError, match="is not the classifier of this run: it has other weights or settings"
    ):
        _ = load_run(toy_run).classifier


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        (
            "operating_point.json",
            {**POINT, "threshold": 0.4},
            "its threshold is not the one that the settings",
        ),
        ("operating_point.json", {**POINT, "specificity": 0.7}, "'specificity' must be that of its counts"),
        ("operating_point.json", {**POINT, "chosen_on": "test"}, "it was not chosen on validation images"),
        (
            "calibration.json",
            {**CALIBRATION, "prevalence": 0.7},
            "without an intercept its prevalence is 0.5",
        ),
        (
            "calibration.json",
            {**CALIBRATION, "slope": 2.0, "method": "temperature"},
            "it was not fitted as",
        ),
        (
            "environment.json",
            {**ENVIRONMENT, "class_weights": {"0": 1.0, "1": 1.0}},
            "its class weights are not",
        ),
        ("environment.json", {**ENVIRONMENT, "packages": []}, "'packages' should be a valid dictionary"),
    ],
)
def test_files_that_speak_of_different_runs_are_named(folder, name, content, fault):
    folder.write_json(name, content)
    folder.update_manifest()
    assert read_message(folder.path).startswith(f"{name} is damaged: {fault}")


@pytest.mark.parametrize(
    "rows",
    [
        [{"epoch": 1, "loss": 0.7}],
        [{**HISTORY[0], "loss": math.nan}],
        [{**HISTORY[0], "loss": "low"}],
        HISTORY[:1],
        HISTORY[1:],
    ],
    ids=["columns", "finite", "numbers", "kept", "from 1"],
)
def test_an_invalid_history_is_refused(folder, rows):
    folder.write_table("history.csv", rows)
    folder.update_manifest()
    assert read_message(folder.path).startswith(
        "history.csv must have a row of finite numbers for each epoch"
    )


def test_normal_images_come_evenly_from_the_lower_half_of_scores():
    labels = np.repeat(np.array([0, 1], dtype=np.int64), 40)
    scores = np.random.default_rng(1).permutation(80) / 80
    chosen = choose_normal_images(labels, scores)
    ranks = np.argsort(np.argsort(scores[:40]))[chosen]
    assert ranks.tolist() == [0, 3, 5, 8, 11, 14, 16, 19]


@pytest.mark.parametrize(("labels", "chosen"), [([1, 0, 1, 0], [3]), ([1, 1, 1, 1], [2, 3]), ([0, 1], [0])])
def test_there_is_always_an_image_to_compare_with(labels, chosen):
    scores = np.linspace(0.9, 0.1, 4)[: len(labels)]
    found = choose_normal_images(np.array(labels, dtype=np.int64), scores)
    assert sorted(found.tolist()) == chosen


def test_pneumonia_is_predicted_above_the_threshold():
    assert ScoredImage("a", 0.75, 0.5, "").prediction == "pneumonia"
    assert ScoredImage("a", 0.5, 0.5, "").prediction == "normal"
    assert ScoredImage("a", None, 0.5, "not scored: the file is empty").prediction is None


def test_warnings_name_what_is_wrong():
    assert to_warning(0.99, (100, 28), 28) == ""
    assert to_warning(1.0, (100, 28), 28) == ""
    assert to_warning(1.24, (100, 20), 28) == (
        "outside the range of the training images (1.2 x the limit); "
        "smaller than the training images (20 x 100 px)"
    )


@pytest.mark.parametrize(("distance", "far"), [(1.01, False), (1.5, False), (1.51, True), (30.0, True)])
def test_only_what_is_far_outside_is_not_to_be_used(distance, far):
    warning = to_warning(distance, (28, 28), 28)
    assert warning.startswith("far outside" if far else "outside")
    assert warning.endswith(": do not use the prediction") == far
