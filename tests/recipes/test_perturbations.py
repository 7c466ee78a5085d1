import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from pneumo_keras.config import change_config
from pneumo_keras.data.corruptions import CORRUPTIONS, CorruptedImages
from pneumo_keras.data.image_preparation import ResizedImages, prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.robustness import ALEXNET, ALEXNET_CLEAN
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.features import store
from pneumo_keras.features.views import PERTURBATIONS, PLAIN
from pneumo_keras.recipes import perturbations
from pneumo_keras.recipes.evaluate import evaluate_other_images, evaluate_run
from pneumo_keras.recipes.images import Split
from pneumo_keras.recipes.perturbations import list_kinds
from tests.images import ImageArray, build_phantom_images, load_phantom_splits

pytestmark = pytest.mark.usefixtures("warm_cache", "without_plots")


@pytest.fixture
def all_kinds(toy, monkeypatch):
    """After `toy` has left three of them."""
    monkeypatch.setattr(perturbations, "CORRUPTIONS", CORRUPTIONS)
    monkeypatch.setattr(perturbations, "PERTURBATIONS", PERTURBATIONS)


def read_metrics(folder, suffix=""):
    return json.loads((folder.path / f"metrics_test_perturbed{suffix}.json").read_text())["robustness"]


def test_every_kind_and_severity_is_evaluated_and_written(run, all_kinds, caplog):
    folder = run.folder
    caplog.set_level(logging.INFO, "pneumo_keras")
    caplog.clear()
    robustness = evaluate_run(run, "test", perturb=True).perturbed.robustness
    assert list(robustness.kinds) == [*CORRUPTIONS, *PERTURBATIONS]
    assert all(len(kind.severities) == 5 for kind in robustness.kinds.values())
    written = read_metrics(folder)
    assert set(written) == {"seed", "unperturbed", "kinds", "medmnist_c"}
    labels, scores = load_scores(folder.path / "scores_test.csv")
    error = 1 - balanced_accuracy_score(labels, scores > 0.5)
    assert written["unperturbed"]["balanced_error"] == pytest.approx(error)
    assert written["unperturbed"]["changed"] == written["unperturbed"]["mean_shift"] == 0
    contrast = written["kinds"]["contrast_down"]
    assert contrast["parameters"] == [0.9, 0.8, 0.7, 0.6, 0.4]
    shifts = [abs(one["mean_shift"]) for one in contrast["severities"]]
    assert 0 < shifts[0] < shifts[-1]
    relative = [written["kinds"][name]["mean"]["balanced_error"] / ALEXNET[name] for name in CORRUPTIONS]
    assert written["medmnist_c"]["mean_relative_error"] == pytest.approx(np.mean(relative))
    assert written["medmnist_c"]["clean_relative_error"] == pytest.approx(error / ALEXNET_CLEAN)
    # One line for all kinds, and none for each.
    assert sum("Features of" in line for line in caplog.messages) == 2
    (line,) = [line for line in caplog.messages if line.startswith("Perturbations: ")]
    assert line.startswith("Perturbations: 19 kinds in five severities each")
    page = (folder.path / "report.html").read_text()
    assert "<h3>Perturbed, by kind</h3>" in page and "Gaussian blur" in page
    with Image.open(folder.path / "figures/perturbations.png") as picture:
        assert picture.width == 1600


def test_the_same_evaluation_again_takes_features_from_the_cache_and_gives_the_same_bytes(run, caplog):
    folder = run.folder
    evaluate_run(run, "test", perturb=True)
    before = read_metrics(folder)
    caplog.set_level(logging.INFO, "pneumo_keras")
    caplog.clear()
    evaluate_run(run, "test", perturb=True)
    assert read_metrics(folder) == before
    assert not any("To pass the network" in line or "damaged" in line for line in caplog.messages)


def test_another_seed_draws_another_noise(run):
    kinds = []
    for seed in (1, 2):
        config = change_config(run.config, {"perturbation.seed": seed})
        evaluate_run(replace(run, config=config), "test", perturb=True)
        kinds.append(read_metrics(run.folder)["kinds"])
    assert kinds[0]["gamma_corr_down"] == kinds[1]["gamma_corr_down"]
    assert kinds[0]["shot_noise"] != kinds[1]["shot_noise"]
    assert kinds[0]["rotation"] != kinds[1]["rotation"]


def test_room_for_all_kinds_is_checked_before_anything_is_computed(run, monkeypatch):
    asked = []
    monkeypatch.setattr(store.Store, "check_space", lambda self, entries: asked.extend(entries))
    evaluate_run(run, "test", perturb=True)
    assert sorted({entry.shape[0] for entry in asked}) == [40, 5 * 40]
    assert len(asked) == 2 + 3


def test_pixels_are_corrupted_before_an_image_is_prepared():
    large = build_phantom_images(3, size=64, seed=1)
    preparation = Preparation(28, 75)
    split = Split("test", "images", ResizedImages(large, preparation))
    kinds = list_kinds(split, seed=4)
    _, seen, view = kinds["speckle_noise"]
    assert view is PLAIN
    corrupted = np.concatenate(
        [CorruptedImages(large, "speckle_noise", one, 4).read(slice(None)) for one in range(1, 6)]
    )
    expected = [prepare_image(Image.fromarray(image), preparation) for image in corrupted]
    assert np.array_equal(seen.images.read(slice(None)), expected)
    assert np.array_equal(seen.images.labels, np.tile(large.labels, 5))
    _, seen, view = kinds["rotation"]
    assert np.array_equal(seen.images.read(slice(None)), np.tile(split.images.read(slice(None)), (5, 1, 1)))
    assert view is not PLAIN


@pytest.fixture
def large_file(tmp_path):
    """Images of 64 px as an npz file, and the same prepared to 28 px as another."""
    splits = load_phantom_splits((40, 20, 30), size=64, seed=7)
    save_archive(tmp_path / "large.npz", splits)
    small = {
        name: ImageArray(ResizedImages(images, Preparation(28)).read(slice(None)), images.labels)
        for name, images in splits.items()
    }
    save_archive(tmp_path / "small.npz", small)
    return tmp_path / "large.npz", tmp_path / "small.npz"


def test_larger_images_are_evaluated_as_their_prepared_ones_are(run, large_file):
    targets = [evaluate_other_images(run, file, "test", perturb=True)[0] for file in large_file]
    scores = [(one.path / "scores_test.csv").read_bytes() for one in targets]
    assert scores[0] == scores[1]
    documents = [read_metrics(one) for one in targets]
    # Turned alike after the preparation, but noise of 64 px is no noise of 28 px.
    assert documents[0]["kinds"]["rotation"] == documents[1]["kinds"]["rotation"]
    assert documents[0]["kinds"]["shot_noise"] != documents[1]["kinds"]["shot_noise"]
    notices = [one.load_document(dict, "environment.json")["data"]["notice"] for one in targets]
    prepared = "Images of 64 px, prepared as the training images were: the square in the middle"
    assert prepared in notices[0] and prepared not in notices[1]
    assert prepared in (targets[0].path / "report.html").read_text()


def test_smaller_images_get_one_line(run, large_file, tmp_path):
    save_archive(tmp_path / "tiny.npz", load_phantom_splits((40, 20, 30), size=16))
    with pytest.raises(DataError, match=r"the images must be 28 px, as set in data.size\. Received: 16 px"):
        evaluate_other_images(run, tmp_path / "tiny.npz", "test")


def test_larger_images_are_not_taken_for_those_of_the_run(run_of_npz, large_file):
    with pytest.raises(RunError, match="must be as they were"):
        evaluate_run(run_of_npz, "test", moved=str(large_file[0]))
