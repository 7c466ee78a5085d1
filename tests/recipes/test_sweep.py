import json

import pytest

from pneumo_keras.config import load_config
from pneumo_keras.errors import SettingsError
from pneumo_keras.recipes import network, sweep
from pneumo_keras.recipes.sweep import sweep_settings
from pneumo_keras.training.cross_validation import sample_folds
from tests.small import SMALL
from tests.toy import build_toy_backbone

SWEEP_FILES = {"best.toml", "cheapest.toml", "sweep.csv", "sweep.png"}
GRID = {
    "model.flip_average": [False, True],
    "augmentation.views": [0, 1],
    "training.learning_rate": [1e-3, 1e-2],
}


def test_a_sweep_evaluates_every_combination_on_images_it_has_not_seen(toy, tmp_path):
    config = load_config("demo", SMALL)
    ranked = sweep_settings(config, GRID, tmp_path / "sweep", folds=3)
    assert len(ranked) == 8
    assert len({json.dumps(candidate.values) for candidate in ranked}) == 8
    assert all(len(candidate.figures["auc"]) == 3 for candidate in ranked)
    assert all(one.to_mean("auc") != one.to_mean("perturbed_auc") for one in ranked)
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == SWEEP_FILES
    best = load_config(str(tmp_path / "sweep" / "best.toml"))
    assert best.augmentation.views == ranked[0].values["augmentation.views"]
    assert best.training.epochs == config.training.epochs
    costs = {
        flipped: {one.operations for one in ranked if one.values["model.flip_average"] == flipped}
        for flipped in (False, True)
    }
    assert costs[True] == {2 * cost for cost in costs[False]}  # images pass the network twice
    milder = load_config("demo", [*SMALL, "perturbation.zoom=1.01", "perturbation.contrast=0"])
    others = sweep_settings(milder, GRID, tmp_path / "milder", folds=3)
    by_values = {str(one.values): one for one in others}
    for one in ranked:
        other = by_values[str(one.values)]
        assert one.to_mean("log_loss") == other.to_mean("log_loss")
        assert one.to_mean("perturbed_log_loss") != other.to_mean("perturbed_log_loss")


def test_a_sweep_of_images_whose_patients_are_known_keeps_them_in_one_fold(
    toy, tmp_path, own_folder, monkeypatch, caplog
):
    caplog.set_level("INFO", "pneumo_keras")
    path, settings = own_folder
    images = sorted((path / "train").rglob("*.png")) + sorted((path / "val").rglob("*.png"))
    lines = [
        f"{image.relative_to(path)},{image.parent.name},{image.parents[1].name},{row // 3}\n"
        for row, image in enumerate(images)
    ]
    (path / "images.csv").write_text("".join(["path,label,split,patient\n", *lines]))
    settings = [settings[0], f"data.path={path}/images.csv"]
    drawn = []

    def draw(labels, hashes, patients, **options):
        drawn.append((patients, sample_folds(labels, hashes, patients, **options)))
        return drawn[-1][1]

    monkeypatch.setattr(sweep, "sample_folds", draw)
    sweep_settings(
        load_config("demo", [*SMALL, *settings]), {"training.epochs": [1]}, tmp_path / "sweep", folds=3
    )
    ((patients, folds),) = drawn
    assert len(set(zip(patients, folds.tolist(), strict=True))) == len(set(patients)) == -(-len(images) // 3)
    assert (
        f"{len(images)} images of {len(set(patients))} patients, and 0 of unknown ones, are in 3 folds: no "
        "patient in two of them"
    ) in caplog.messages


def test_a_sweep_builds_the_network_once_for_all_feature_layers(toy, tmp_path, monkeypatch):
    built = []

    def build(*arguments, feature_layers, **settings):
        built.append(feature_layers)
        return build_toy_backbone(*arguments, feature_layers=feature_layers, **settings)

    monkeypatch.setattr(network, "build_backbone", build)
    grid = {"model.image_size": [75, 80], "model.feature_layers": [["mixed4"], ["mixed10"]]}
    ranked = sweep_settings(load_config("demo", SMALL), grid, tmp_path / "sizes", folds=3)
    assert built == [["mixed4", "mixed10"]] * 2
    operations = {
        (one.values["model.image_size"], *one.values["model.feature_layers"]): one.operations
        for one in ranked
    }
    assert operations[75, "mixed4"] < operations[80, "mixed4"] < operations[75, "mixed10"]


def test_a_sweep_of_anything_but_heads_is_refused(toy, tmp_path):
    config = load_config("demo", [*SMALL, "training.unfreeze_from=mixed10"])
    with pytest.raises(SettingsError, match=r"training\.unfreeze_from must be unset\. Received: mixed10"):
        sweep_settings(config, {"training.epochs": [1]}, tmp_path / "sweep", folds=3)
    assert not (tmp_path / "sweep").exists()
