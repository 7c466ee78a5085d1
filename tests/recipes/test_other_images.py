import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.config import change_config, load_config
from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.scores import load_score_table, load_scores
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.recipes.evaluate import choose_name, evaluate_other_images, evaluate_run
from pneumo_keras.reporting.evaluation_text import format_evaluation
from pneumo_keras.runs.run import load_run
from tests.images import ImageArray, load_phantom_splits, sort_by_class, write_images, write_splits

pytestmark = pytest.mark.usefixtures("warm_cache", "without_plots")

OTHERS = (40, 20, 30)


@pytest.fixture
def others():
    return load_phantom_splits(OTHERS, seed=7)


@pytest.fixture
def clinic(tmp_path, others):
    """A folder of other images, without splits."""
    write_images(tmp_path / "other" / "clinic", others["test"])
    return tmp_path / "other" / "clinic"


def evaluate(run, path, split="test", **options):
    """The folder of an evaluation on other images, its figures and its report."""
    target, evaluation = evaluate_other_images(run, path, split, **options)
    return target.path, evaluation, (target.path / "report.html").read_text()


def refuse(*arguments, error=RunError, **options):
    with pytest.raises(error) as caught:
        evaluate(*arguments, **options)
    return str(caught.value)


def read_files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def load(path):
    return json.loads(path.read_text())


def test_a_run_is_evaluated_on_all_images_of_a_folder_without_splits(run, clinic, others):
    run = replace(run, operating_point=replace(run.operating_point, threshold=0.6))
    before = read_files(run.folder.path)
    target, evaluation, page = evaluate(run, clinic)
    assert target == run.folder.path / "data" / "clinic"
    assert read_files(target).keys() == {
        "config.toml",
        "environment.json",
        "figures/summary.png",
        "manifest.sha256",
        "metrics_test.json",
        "report.html",
        "scores_test.csv",
    }
    assert read_files(run.folder.path).items() >= before.items()
    labels, scores = load_scores(target / "scores_test.csv")
    assert np.array_equal(labels, sort_by_class(others["test"]).labels)
    assert evaluation.threshold == 0.6
    assert evaluation.counts.tp == int(((scores > 0.6) & (labels == 1)).sum())
    assert "<h1>run on clinic: test images</h1>" in page
    assert "Evaluated on other images than those of the training (synthetic phantoms, 28 px)." in page
    assert "It was trained on synthetic phantoms, 28 px, and suits images like those." in page
    assert "<b>clinic, 28 px.</b>" in page
    assert "Training images" not in page
    assert str(clinic.parent) not in page
    assert '<tr><th scope="row">data.title</th><td class="long">synthetic phantoms, 28 px</td></tr>' in page
    assert refuse(run, clinic, "val", error=DataError) == (
        "clinic, 28 px: the images come without splits and are evaluated together. Received: --split "
        "val. Leave "
        "it out."
    )
    with pytest.raises(RunError) as caught:
        load_run(target)
    assert str(caught.value) == (
        f"RUN must be the folder of a run. {target} holds the evaluation of {run.folder.path} on "
        "other images: "
        "name that one."
    )


def test_images_get_the_same_scores_as_a_split_and_as_other_images(run_of_folder, run_of_npz, tmp_path):
    evaluate_run(run_of_folder, "test")
    own = load_score_table(run_of_folder.folder.path / "scores_test.csv")
    target, _, _ = evaluate(run_of_npz, tmp_path / "clinic")
    other = load_score_table(target / "scores_test.csv")
    assert other.scores.tolist() == own.scores.tolist()
    assert other.files == own.files is not None
    figures = [path / "metrics_test.json" for path in (target, run_of_folder.folder.path)]
    assert load(figures[0])["figures"] == load(figures[1])["figures"]


def test_metrics_stand_by_the_further_columns_of_a_csv(run, clinic, others):
    files = sorted(clinic.rglob("*.png"))
    lines = [
        f"{file},{file.parent.name},{'FM?'[index % 3]},{index * 0.5}" for index, file in enumerate(files)
    ]
    table = clinic / "images.csv"
    table.write_text("\n".join(["path,label,sex,age", *lines]))
    target, evaluation, page = evaluate(run, table)
    found = load(target / "metrics_test.json")["subgroups"]
    assert [(one["column"], one["value"], one["n"]) for one in found] == [
        ("sex", "F", 10),
        ("sex", "M", 10),
        ("sex", None, 10),
        ("age", "0 to 3.5", 8),
        ("age", "4 to 7", 7),
        ("age", "7.5 to 10.5", 7),
        ("age", "11 to 14.5", 8),
    ]
    male, written = evaluation.subgroups[1], found[1]
    assert written["figures"]["specificity"]["value"] == male.figures["specificity"].value > 0
    assert sum(one.counts.tp for one in evaluation.subgroups[:3]) == evaluation.counts.tp
    assert "<h3>Subgroups</h3>" in page
    assert "sex: missing" in format_evaluation(evaluation, heading="")


@pytest.mark.parametrize("quality", [None, 75])
def test_larger_images_are_prepared_as_those_of_the_training_were(run, tmp_path, quality):
    """Images and those that they were made from have the same scores."""
    run.environment["data"]["preparation"]["jpeg_quality"] = quality
    large = load_phantom_splits(OTHERS, size=64)["test"]
    write_images(tmp_path / "small", sort_by_class(shrink(large, quality)))
    write_images(tmp_path / "large", large)
    own, other = (
        load_score_table(evaluate(run, tmp_path / name)[0] / "scores_test.csv") for name in ("small", "large")
    )
    assert own.scores.tolist() == other.scores.tolist()
    assert own.labels.tolist() == other.labels.tolist()


@pytest.mark.parametrize(
    ("trained", "evaluated", "notice"),
    [
        (75, None, "The images of the training were saved as JPEG of quality 75, these were not: their"),
        (None, 75, "The images of the training were not saved as JPEG, these were, of quality 75: their"),
        (75, 75, ""),
    ],
)
def test_images_of_the_right_size_that_were_saved_otherwise_are_named(
    run, tmp_path, caplog, trained, evaluated, notice
):
    run.environment["data"]["preparation"]["jpeg_quality"] = trained
    large = load_phantom_splits(OTHERS, size=64)
    save_archive(
        tmp_path / "other.npz", {split: shrink(images, evaluated) for split, images in large.items()}
    )
    _, _, page = evaluate(run, tmp_path / "other.npz")
    assert notice in page and notice in caplog.text
    assert bool(notice) == ("their scores differ" in caplog.text)


def shrink(images, quality):
    arrays = [prepare_image(Image.fromarray(image), Preparation(28, quality)) for image in images.images]
    return replace(images, images=np.stack(arrays))


def test_images_out_of_distribution_are_counted_in_the_metrics(run, tmp_path, others):
    inverted, counts = replace(others["test"], images=255 - others["test"].images), []
    for name, images in (("plain", others["test"]), ("inverted", inverted)):
        write_images(tmp_path / name, images)
        target, evaluation, page = evaluate(run, tmp_path / name)
        written = load(target / "metrics_test.json")["out_of_distribution"]
        assert written["outside"] + written["far_outside"] == evaluation.out_of_distribution.n
        counts.append(evaluation.out_of_distribution.n)
        assert "out of distribution" in page
    assert counts[0] < 10 < counts[1]


def test_a_split_is_chosen_where_there_are_splits(run, tmp_path, others):
    write_splits(tmp_path / "clinic", others)
    for split, n in (("test", 30), ("val", 20)):
        target, evaluation, _ = evaluate(run, tmp_path / "clinic", split)
        assert evaluation.n == n
    assert set(load(target / "environment.json")["images"]) == {"val", "test"}
    assert (
        "None of these images is among those that the run learnt from"
        in (target / "report_val.html").read_text()
    )


def test_the_settings_name_the_images_that_were_evaluated(run, clinic, monkeypatch):
    monkeypatch.chdir(clinic.parent)
    target, _, _ = evaluate(run, Path("clinic"), name="own-name")
    config = load_config(str(target / "config.toml"))
    assert (target.name, config.data.source, config.data.path) == ("own-name", "folder", Path("clinic"))
    assert config.model == run.config.model
    about = load(target / "environment.json")
    assert about["paths"] == {"data.path": str(clinic)}
    assert about["data"]["title"] == "clinic, 28 px"


def test_the_positive_class_is_that_of_the_run_or_another(run, tmp_path, others):
    write_images(tmp_path / "clinic", others["test"], classes=("none", "infiltrate"))
    run = replace(run, config=change_config(run.config, {"data.positive": "none"}))
    _, turned, _ = evaluate(run, tmp_path / "clinic", name="turned")
    _, right, _ = evaluate(run, tmp_path / "clinic", positive="infiltrate")
    pneumonia = [one.counts.tp + one.counts.fn for one in (turned, right)]
    assert pneumonia == [int((others["test"].labels == label).sum()) for label in (0, 1)]


def test_an_evaluation_is_repeated_and_never_replaced_by_one_on_other_images(run, clinic, tmp_path, others):
    target, first, _ = evaluate(run, clinic)
    assert evaluate(run, clinic)[1] == first
    same, other = tmp_path / "same" / "clinic.npz", tmp_path / "clinic.npz"
    same.parent.mkdir()
    save_archive(same, {**others, "test": sort_by_class(others["test"])})
    assert evaluate(run, same)[1] == first  # the same images, wherever they lie
    before = read_files(target)
    save_archive(other, load_phantom_splits(OTHERS, seed=8))
    taken = (
        f"{target} holds an evaluation on other images of that name. Give these another one with --name, or "
        "delete that folder."
    )
    for arguments, options in (((other,), {}), ((other, "val"), {}), ((clinic,), {"positive": "NORMAL"})):
        assert refuse(run, *arguments, **options) == taken
    assert read_files(target) == before


def test_images_that_were_trained_on_are_no_others(run_of_folder, tmp_path):
    path = tmp_path / "clinic"
    own = (
        f"--data must name images that the run was not trained on. Received: {path}. Leave it out to "
        "evaluate "
        "the run on its own."
    )
    assert refuse(run_of_folder, path, "val") == own


def test_training_images_are_recognised_by_their_pixels_in_any_file(run, tmp_path, caplog):
    own = load_phantom_splits((60, 30, 40))
    others = load_phantom_splits((60, 30, 40), seed=7)["test"]
    write_images(tmp_path / "copy", ImageArray(own["train"].images[1:], own["train"].labels[1:]))
    turned = ImageArray(own["val"].images[::-1], own["val"].labels[::-1])
    save_archive(tmp_path / "turned.npz", {**own, "test": turned})
    for name, n in (("copy", 59), ("turned.npz", 30)):
        assert refuse(run, tmp_path / name) == (
            f"--data must name images that the run was not trained on. Received: {tmp_path}/{name}, with {n} "
            f"of {n} images among its training and validation images. Take those away."
        )
    few = ImageArray(
        np.concatenate([others.images, own["train"].images[:7]]),
        np.concatenate([others.labels, own["train"].labels[:7]]),
    )
    write_images(tmp_path / "few", few)
    caplog.clear()
    target, _, page = evaluate(run, tmp_path / "few")
    notice = (
        "7 of these 47 images are among the training and validation images of the run, by their pixels: the "
        "metrics are optimistically biased."
    )
    warnings = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert f"images of few, 28 px: {notice}" in warnings
    assert notice in page
    assert load(target / "environment.json")["data"]["seen"] == 7


def test_perturbation_and_a_stated_prevalence_work_on_other_images(run, tmp_path, others):
    """Whether or not the images of the run are still there."""
    save_archive(tmp_path / "clinic.npz", others)
    target, evaluation = evaluate_other_images(
        run, tmp_path / "clinic.npz", "test", prevalence=0.1, perturb=True
    )
    assert evaluation.perturbed is not None
    assert evaluation.stated_prevalence == 0.1
    assert {"scores_test_prevalence_0.1.csv", "scores_test_perturbed_prevalence_0.1.csv"} <= read_files(
        target.path
    ).keys()


def test_the_images_of_the_run_need_not_be_there(run_of_npz, clinic, tmp_path):
    (tmp_path / "images.npz").unlink()
    assert evaluate(run_of_npz, clinic)[1].n == 30


def test_images_are_named_after_their_file_or_folder(tmp_path, monkeypatch):
    names = {
        "chest images (v2).npz": "chest-images-v2",
        "images.v2.csv": "images.v2",
        ".hidden.npz": "hidden",
        "()": "images",
        "胸" * 80 + ".npz": "胸" * 60,
    }
    assert {path: choose_name(tmp_path / path, None) for path in names} == names
    (tmp_path / "clinic.v2").mkdir()
    monkeypatch.chdir(tmp_path / "clinic.v2")
    assert choose_name(Path(), None) == "clinic.v2"


@pytest.mark.parametrize("name", ["a/b", "..", "", "two words", "../x", "/x", "x" * 61])
def test_a_name_must_be_one_of_a_folder(name):
    with pytest.raises(RunError) as caught:
        choose_name(Path("clinic"), name)
    assert (
        str(caught.value)
        == f"--name must be of 60 letters, digits, '_', '-' and '.' at most. Received: {name}"
    )


def test_swapped_labels_are_warned_about(run, tmp_path, others, caplog):
    """Of images that are labelled as the run scores them."""
    save_archive(tmp_path / "first.npz", others)
    target, _, _ = evaluate(run, tmp_path / "first.npz")
    _, scores = load_scores(target / "scores_test.csv")
    write_images(
        tmp_path / "clinic", replace(others["test"], labels=(scores > np.median(scores)).astype(np.int64))
    )
    caplog.clear()
    _, evaluation, _ = evaluate(run, tmp_path / "clinic", name="right")
    assert evaluation.figures["auc"].low > 0.5
    assert "backwards" not in caplog.text
    _, evaluation, page = evaluate(run, tmp_path / "clinic", positive="NORMAL", name="swapped")
    assert evaluation.figures["auc"].high < 0.5
    (line,) = [line for line in caplog.messages if "backwards" in line]
    assert line.startswith("images of clinic") and "data.positive" in line
    assert "scores rank the images backwards" in page


@pytest.mark.parametrize("label", [0, 1])
def test_what_is_defined_of_images_of_one_class_is_given(run, tmp_path, others, label):
    rows = others["test"].labels == label
    of_class = ImageArray(others["test"].images[rows], others["test"].labels[rows])
    path, n = tmp_path / ("clinic" if label else "clinic.npz"), len(of_class)
    if label:
        write_images(path, of_class)
    else:
        save_archive(path, {**others, "test": of_class})
    target, evaluation, page = evaluate(run, path, perturb=True)
    figures, counts = evaluation.figures, evaluation.counts
    held = "sensitivity" if label else "specificity"
    assert counts.n == n
    assert figures["accuracy"].value == figures[held].value == (counts.tp if label else counts.tn) / n
    assert figures["accuracy"].low < figures["accuracy"].high
    assert figures["log_loss"].value > 0
    for name in ("auc", "precision_pneumonia", "precision_normal", "f1_pneumonia", "f1_normal"):
        assert all(math.isnan(bound) for bound in (figures[name].value, figures[name].low)), name
    assert load(target / "metrics_test.json")["figures"]["auc"]["value"] is None
    sentence = (
        f"All {n} images are {'pneumonia' if label else 'normal'}: what takes both classes is undefined"
    )
    text = format_evaluation(evaluation, heading="")
    assert sentence in text and sentence in page
    assert "nan" not in text
    folder = run.folder.to_evaluation("clinic")
    (found,) = compare_runs(folder, [folder], "test", tmp_path / "roc.png")
    assert not math.isnan(found.differences["accuracy"].value)
    assert math.isnan(found.differences["auc"].value)
    refusal = refuse(run, path, error=DataError, prevalence=0.1)
    assert "A stated prevalence takes normal and pneumonia images" in refusal
