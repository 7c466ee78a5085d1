import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.config import load_config
from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import ImageArray, Preparation
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.scores import load_score_table, load_scores
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.other_images import OtherImages, choose_name, evaluate_other_images
from pneumo_keras.reporting.evaluation_text import format_evaluation
from pneumo_keras.runs.run import load_run
from tests.images import load_phantom_splits, sort_by_class, write_images, write_splits
from tests.small import LEARNING

OTHERS = (40, 20, 30)


@pytest.fixture
def others():
    return load_phantom_splits(OTHERS, seed=7)


@pytest.fixture
def clinic(tmp_path, others):
    """A folder of other images, without splits."""
    write_images(tmp_path / "clinic", others["test"])
    return tmp_path / "clinic"


def list_files(path):
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def test_a_run_is_evaluated_on_all_images_of_a_folder_without_splits(train, clinic, others):
    run = train("run", "evaluation.rule=youden", "evaluation.calibration=platt", LEARNING)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    target, evaluation = evaluate_other_images(load_run(run.path), OtherImages(clinic), "test")
    assert target.path == run.path / "data" / "clinic"
    assert list_files(target.path) == {
        "config.toml",
        "environment.json",
        "figures/summary.png",
        "manifest.sha256",
        "metrics_test.json",
        "report.html",
        "scores_test.csv",
    }
    assert {path: path.read_bytes() for path in before} == before
    labels, scores = load_scores(target.path / "scores_test.csv")
    assert np.array_equal(labels, sort_by_class(others["test"]).labels)
    point = json.loads((run.path / "operating_point.json").read_text())
    assert evaluation.at_threshold.threshold == point["threshold"]
    assert evaluation.at_threshold.tp == int(((scores > point["threshold"]) & (labels == 1)).sum())


def test_other_images_get_the_scores_that_they_get_as_the_run_s_own(train, own_folder, same_file):
    own, run = train("own", *own_folder[1]), train("run", *own_folder[1])
    evaluate_run(load_run(own.path), "test")
    for path, name in ((own_folder[0], None), (same_file[0], "npz")):
        target, _ = evaluate_other_images(load_run(run.path), OtherImages(path, name=name), "test")
        evaluated = [load_score_table(one.path / "scores_test.csv") for one in (target, own)]
        assert evaluated[0].scores.tolist() == evaluated[1].scores.tolist()
        assert (evaluated[0].files == evaluated[1].files) is (name is None)
        figures = [(one.path / "metrics_test.json").read_bytes() for one in (target, own)]
        assert figures[0] == figures[1]


@pytest.mark.parametrize("quality", [None, 75])
def test_larger_images_are_prepared_as_those_of_the_training_were(train, tmp_path, quality):
    """Trained on small images, evaluated on those that they were made from: the same scores."""
    large = load_phantom_splits(OTHERS, size=64)
    small = {split: shrink(images, quality) for split, images in large.items()}
    save_archive(tmp_path / "small.npz", {split: sort_by_class(images) for split, images in small.items()})
    run = train("run", "data.source=pneumonia_mnist", f"data.path={tmp_path / 'small.npz'}")
    assert load_run(run.path).preparation == Preparation(28, quality)
    evaluate_run(load_run(run.path), "test")
    write_images(tmp_path / "large", large["test"])
    target, _ = evaluate_other_images(load_run(run.path), OtherImages(tmp_path / "large"), "test")
    own, others = (load_score_table(one.path / "scores_test.csv") for one in (run, target))
    assert own.scores.tolist() == others.scores.tolist()
    assert own.labels.tolist() == others.labels.tolist()
    assert "JPEG" not in (target.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("trained", "evaluated", "said"),
    [
        (75, None, "The images of the training were saved as JPEG of quality 75, these were not: their"),
        (None, 75, "The images of the training were not saved as JPEG, these were, of quality 75: their"),
    ],
)
def test_images_of_the_right_size_that_were_saved_otherwise_are_named(
    train, tmp_path, caplog, trained, evaluated, said
):
    large = load_phantom_splits(OTHERS, size=64)
    for name, quality in (("trained", trained), ("evaluated", evaluated)):
        splits = {split: shrink(images, quality) for split, images in large.items()}
        save_archive(tmp_path / f"{name}.npz", splits)
    run = train("run", "data.source=pneumonia_mnist", f"data.path={tmp_path / 'trained.npz'}")
    target, _ = evaluate_other_images(load_run(run.path), OtherImages(tmp_path / "evaluated.npz"), "test")
    assert said in (target.path / "report.html").read_text()
    assert said in caplog.text


def shrink(images, quality):
    arrays = [prepare_image(Image.fromarray(image), Preparation(28, quality)) for image in images.images]
    return replace(images, images=np.stack(arrays))


def test_images_out_of_distribution_are_counted_in_the_metrics(train, tmp_path, others):
    inverted = replace(others["test"], images=255 - others["test"].images)
    write_images(tmp_path / "plain", others["test"])
    write_images(tmp_path / "inverted", inverted)
    run, counts = train(), []
    for name in ("plain", "inverted"):
        target, evaluation = evaluate_other_images(load_run(run.path), OtherImages(tmp_path / name), "test")
        written = json.loads((target.path / "metrics_test.json").read_text())["out_of_distribution"]
        assert evaluation.out_of_distribution is not None
        assert written["outside"] + written["far_outside"] == evaluation.out_of_distribution.n
        counts.append(evaluation.out_of_distribution.n)
        assert "range of the training images" in (target.path / "report.html").read_text()
    assert counts[0] < 10 < counts[1]


def test_a_split_is_chosen_where_there_are_splits(train, tmp_path, others):
    write_splits(tmp_path / "clinic", others)
    run = train()
    for split, n in (("val", 20), ("test", 30)):
        target, evaluation = evaluate_other_images(
            load_run(run.path), OtherImages(tmp_path / "clinic"), split
        )
        assert evaluation.at_threshold.n == n
    about = json.loads((target.path / "environment.json").read_text())
    assert set(about["images"]) == {"val", "test"}
    assert "Nothing was fitted or chosen on these images." in (target.path / "report_val.html").read_text()


def test_images_without_splits_are_evaluated_together(train, clinic):
    with pytest.raises(DataError) as caught:
        evaluate_other_images(load_run(train().path), OtherImages(clinic), "val")
    assert str(caught.value) == (
        "clinic, 28 px: the images come without splits and are evaluated together. Received: --split val. Leave "
        "it out."
    )


def test_the_report_says_what_was_trained_on_and_what_is_evaluated(train, own_file, clinic):
    target, _ = evaluate_other_images(load_run(train("one", *own_file[1]).path), OtherImages(clinic), "test")
    page = (target.path / "report.html").read_text()
    assert "<h1>one on clinic: test images</h1>" in page
    assert "Evaluated on other images than those of the training (images.npz, 28 px)." in page
    assert "It was trained on images.npz, 28 px, and knows images like those." in page
    assert "<b>clinic, 28 px.</b>" in page
    assert "Training images" not in page
    assert str(clinic.parent) not in page
    assert '<tr><th scope="row">data.title</th><td class="long">images.npz, 28 px</td></tr>' in page


def test_the_settings_name_the_images_that_were_evaluated(train, clinic, tmp_path, monkeypatch):
    run = train()
    monkeypatch.chdir(tmp_path)
    target, _ = evaluate_other_images(
        load_run(run.path), OtherImages(Path("clinic"), name="own-name"), "test"
    )
    config = load_config(str(target.path / "config.toml"))
    assert (config.data.source, config.data.path) == ("folder", Path("clinic"))
    assert config.model == load_config(str(run.path / "config.toml")).model
    about = json.loads((target.path / "environment.json").read_text())
    assert about["paths"] == {"data.path": str(clinic)}
    assert about["data"]["title"] == "clinic, 28 px"


def test_the_positive_class_is_that_of_the_run_or_another(train, tmp_path, others):
    write_images(tmp_path / "clinic", others["test"], classes=("none", "infiltrate"))
    run = train("run", "data.positive=none")
    path = tmp_path / "clinic"
    _, turned = evaluate_other_images(load_run(run.path), OtherImages(path, name="turned"), "test")
    _, right = evaluate_other_images(load_run(run.path), OtherImages(path, positive="infiltrate"), "test")
    assert (turned.evaluation.tp + turned.evaluation.fn, right.evaluation.tp + right.evaluation.fn) == (
        int((others["test"].labels == 0).sum()),
        int((others["test"].labels == 1).sum()),
    )


def test_an_evaluation_is_repeated_and_never_replaced_by_one_on_other_images(train, clinic, tmp_path, others):
    run = train()
    target, first = evaluate_other_images(load_run(run.path), OtherImages(clinic), "test")
    assert evaluate_other_images(load_run(run.path), OtherImages(clinic), "test")[1] == first
    (tmp_path / "elsewhere").mkdir()
    same, other = tmp_path / "elsewhere" / "clinic.npz", tmp_path / "clinic.npz"
    save_archive(same, {**others, "test": sort_by_class(others["test"])})
    again = evaluate_other_images(load_run(run.path), OtherImages(same), "test")[1]
    assert again == first  # the same images, wherever they lie
    before = {path: path.read_bytes() for path in target.path.rglob("*") if path.is_file()}
    save_archive(other, load_phantom_splits(OTHERS, seed=8))
    for split in ("test", "val"):
        with pytest.raises(RunError) as caught:
            evaluate_other_images(load_run(run.path), OtherImages(other), split)
        assert str(caught.value) == (
            f"{target.path} holds an evaluation on other images of that name. Give these another one with "
            "--name, or delete that folder."
        )
    assert {path: path.read_bytes() for path in target.path.rglob("*") if path.is_file()} == before
    evaluate_other_images(load_run(run.path), OtherImages(other, name="others"), "test")


def test_images_that_were_trained_on_are_no_others(train, own_folder, tmp_path):
    plain = tmp_path / "plain"
    write_images(plain, load_phantom_splits((150, 2, 2), seed=7)["train"])
    run, whole = train("run", *own_folder[1]), train("whole", "data.source=folder", f"data.path={plain}")
    for folder, path, split in ((run, own_folder[0], "val"), (whole, plain, "test")):
        with pytest.raises(RunError) as caught:
            evaluate_other_images(load_run(folder.path), OtherImages(path), split)
        assert str(caught.value) == (
            f"--data must name images that the run was not trained on. Received: {path}. Leave it out to "
            "evaluate the run on its own."
        )


def test_labels_that_changed_are_other_images(train, clinic):
    run = train()
    evaluate_other_images(load_run(run.path), OtherImages(clinic), "test")
    with pytest.raises(RunError, match="--name"):
        evaluate_other_images(load_run(run.path), OtherImages(clinic, positive="NORMAL"), "test")


def test_perturbation_and_a_stated_prevalence_work_on_other_images(train, clinic):
    target, evaluation = evaluate_other_images(
        load_run(train().path), OtherImages(clinic), "test", prevalence=0.1, perturb=True
    )
    assert evaluation.perturbed is not None
    assert evaluation.at_threshold.stated_prevalence == 0.1
    assert {"scores_test_prevalence_0.1.csv", "scores_test_perturbed_prevalence_0.1.csv"} <= list_files(
        target.path
    )


def test_the_images_of_the_run_need_not_be_there(train, own_file, clinic):
    run = train("run", *own_file[1])
    own_file[0].unlink()
    _, evaluation = evaluate_other_images(load_run(run.path), OtherImages(clinic), "test")
    assert evaluation.at_threshold.n == 30


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("chest images (v2).npz", "chest-images-v2"),
        ("images.v2.csv", "images.v2"),
        (".hidden.npz", "hidden"),
        ("()", "images"),
    ],
)
def test_images_are_called_like_their_file(tmp_path, path, name):
    assert choose_name(OtherImages(tmp_path / path)) == name


def test_images_are_called_like_their_folder(tmp_path, monkeypatch):
    (tmp_path / "clinic.v2").mkdir()
    monkeypatch.chdir(tmp_path / "clinic.v2")
    assert choose_name(OtherImages(Path())) == "clinic.v2"


@pytest.mark.parametrize("name", ["a/b", "..", "", "two words", "../x", "/x", "x" * 61])
def test_a_name_must_be_one_of_a_folder(name):
    with pytest.raises(RunError) as caught:
        choose_name(OtherImages(Path("clinic"), name=name))
    assert (
        str(caught.value)
        == f"--name must be of 60 letters, digits, '_', '-' and '.' at most. Received: {name}"
    )


def test_an_evaluation_is_no_run(train, clinic):
    run = train()
    target, _ = evaluate_other_images(load_run(run.path), OtherImages(clinic), "test")
    with pytest.raises(RunError) as caught:
        load_run(target.path)
    assert str(caught.value) == (
        f"RUN must be the folder of a run. {target.path} holds what {run.path} did on other images: name "
        "that one."
    )


def test_a_long_name_of_a_file_is_cut(tmp_path):
    assert choose_name(OtherImages(tmp_path / ("胸" * 80 + ".npz"))) == "胸" * 60


def test_labels_that_are_swapped_are_said_to_be(train, clinic, caplog):
    folder = train("run", LEARNING, "training.epochs=10")
    _, evaluation = evaluate_other_images(load_run(folder.path), OtherImages(clinic, name="right"), "test")
    assert evaluation.at_threshold.figures["auc"].low > 0.5
    assert "backwards" not in caplog.text
    swapped = OtherImages(clinic, positive="NORMAL", name="swapped")
    target, evaluation = evaluate_other_images(load_run(folder.path), swapped, "test")
    assert evaluation.at_threshold.figures["auc"].high < 0.5
    (line,) = [line for line in caplog.messages if "backwards" in line]
    assert line.startswith(f"images of {clinic.name}") and "data.positive" in line
    assert "scores rank the images backwards" in (target.path / "report.html").read_text()


@pytest.mark.parametrize("form", ["folder", "npz"])
@pytest.mark.parametrize("label", [0, 1])
def test_what_is_defined_of_images_of_one_class_is_given(train, tmp_path, others, label, form):
    of_class = {
        split: ImageArray(images.images[images.labels == label], images.labels[images.labels == label])
        for split, images in others.items()
    }
    path = tmp_path / ("clinic" if form == "folder" else "clinic.npz")
    if form == "folder":
        write_images(path, of_class["test"])
    else:
        save_archive(path, {**others, "test": of_class["test"]})
    runs = [train("one"), train("two", LEARNING)]
    (target, evaluation), (again, _) = (
        evaluate_other_images(load_run(run.path), OtherImages(path), "test", perturb=True) for run in runs
    )
    figures, counts = evaluation.at_threshold.figures, evaluation.at_threshold.counts
    n = len(of_class["test"])
    right = counts.tp if label else counts.tn
    held = "sensitivity" if label else "specificity"
    assert counts.n == n
    assert figures["accuracy"].value == figures[held].value == right / n
    assert figures["accuracy"].low < figures["accuracy"].high
    assert figures["log_loss"].value > 0
    for name in ("auc", "precision_pneumonia", "precision_normal", "f1_pneumonia", "f1_normal"):
        assert all(math.isnan(bound) for bound in (figures[name].value, figures[name].low)), name
    written = json.loads((target.path / "metrics_test.json").read_text())
    assert written["figures"]["auc"]["value"] is None
    sentence = (
        f"All {n} images are {'pneumonia' if label else 'normal'}: what takes both classes is undefined"
    )
    text = format_evaluation(evaluation, heading="")
    assert sentence in text and sentence in (target.path / "report.html").read_text()
    assert "nan" not in text
    (found,) = compare_runs(target, [again], "test", tmp_path / "roc.png")
    assert not math.isnan(found.differences["accuracy"].value)
    assert math.isnan(found.differences["auc"].value)
    with pytest.raises(DataError, match="A stated prevalence takes normal and pneumonia images"):
        evaluate_other_images(load_run(runs[0].path), OtherImages(path), "test", 0.1)
