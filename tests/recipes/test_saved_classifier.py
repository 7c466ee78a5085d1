import json
import shutil
import zipfile

import pytest

from pneumo_keras.errors import ModelError, PneumoError
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.saved_classifier import load_evaluated_classifier
from pneumo_keras.runs.finished import load_run
from pneumo_keras.runs.manifest import extend_manifest
from tests.small import LEARNING

OTHER = "it has other weights or settings than were noted when it was trained. Train again."


def forget_fingerprint(folder):
    """As in a run of another version of Keras, which may describe layers otherwise."""
    environment = json.loads((folder.path / "environment.json").read_text())
    environment["packages"]["keras"] = "3.0"
    folder.write_json("environment.json", environment)
    folder.seal()


def change_config(folder, old, new):
    with zipfile.ZipFile(folder.path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = members["config.json"].decode()
    assert old in text
    with zipfile.ZipFile(folder.path / "model.keras", "w") as archive:
        for name, content in {**members, "config.json": text.replace(old, new)}.items():
            archive.writestr(name, content)
    extend_manifest(folder.path, ["model.keras"])


def copy_model(folder, other):
    shutil.copy(other.path / "model.keras", folder.path / "model.keras")
    extend_manifest(folder.path, ["model.keras"])


def refuse(folder):
    with pytest.raises(ModelError) as caught:
        load_evaluated_classifier(folder, load_run(folder))
    start = f"{folder.path}/model.keras is not the classifier of this run: "
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


@pytest.mark.parametrize("noted", [True, False])
def test_the_classifier_that_was_trained_is_taken(train, noted):
    folder = train(
        "run", "evaluation.calibration=platt", LEARNING, "model.flip_average=true", "training.members=2"
    )
    if not noted:
        forget_fingerprint(folder)
    assert load_evaluated_classifier(folder, load_run(folder)).flip_average


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ('"activation": "relu", "bias', '"activation": "tanh", "bias', "head"),
        ('"activation": "sigmoid"', '"activation": "tanh"', "decision"),
        ('"name": "calibration", "trainable": true', '"name": "other", "trainable": true', None),
        ('"scale": 1.0', '"scale": 1.5', "decision"),
        ('"offset": -1.0', '"offset": 0.0', "scale"),
        ('"x_max": 255', '"x_max": 25', "resize"),
        ('"interpolation": "bilinear"', '"interpolation": "nearest"', "resize"),
    ],
)
def test_a_part_that_is_built_otherwise_is_named(train, noted, old, new, part):
    folder = train()
    if not noted:
        forget_fingerprint(folder)
    text = zipfile.ZipFile(folder.path / "model.keras").read("config.json").decode()
    if old not in text:  # how Keras orders settings is its own business
        pytest.skip(f"this Keras writes no {old}")
    change_config(folder, old, new)
    if part is None:  # names change nothing
        load_evaluated_classifier(folder, load_run(folder))
    else:
        assert refuse(folder) == f"{part} is built otherwise than the run says. Train again."


def test_a_changed_layer_of_the_frozen_network_is_found(train):
    folder = train()
    change_config(folder, '"epsilon": 0.001', '"epsilon": 0.1')
    assert (
        refuse(folder) == "it has other weights or settings than were noted when it was trained. Train again."
    )


def test_another_calibration_is_found(train):
    folder = train("run", "evaluation.calibration=platt", LEARNING)
    forget_fingerprint(folder)
    calibration = json.loads((folder.path / "calibration.json").read_text())
    folder.write_json("calibration.json", {**calibration, "slope": calibration["slope"] * 1.001})
    folder.seal()
    assert refuse(folder) == "decision is built otherwise than the run says. Train again."


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (["seed=7"], OTHER),
        (["model.hidden_units=5"], "head is built otherwise than the run says. Train again."),
        (["model.feature_layers=mixed4"], "backbone has the feature layers mixed4. Train again."),
        (
            ["model.image_size=80"],
            "backbone takes (None, 80, 80, 3), where model.image_size is 75. Train again.",
        ),
        (
            ["model.flip_average=true"],
            "it averages an image and its mirror image, or does not, against the settings. Train again.",
        ),
    ],
)
def test_the_classifier_of_another_run_is_found(train, settings, fault):
    folder, other = train("run"), train("other", *settings)
    copy_model(folder, other)
    assert refuse(folder) == fault


def test_nothing_is_replaced_by_an_evaluation_that_is_refused(train):
    folder, other = train("run"), train("other", "seed=7")
    evaluate_run(folder, "test")
    copy_model(folder, other)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(PneumoError):
        evaluate_run(folder, "test")
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
