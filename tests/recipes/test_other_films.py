import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.config import load_config
from pneumo_keras.data.films import FilmArray, Preparation
from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.scores import load_score_table, load_scores
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.other_films import OtherFilms, choose_name, evaluate_other_films
from pneumo_keras.reporting.judgement_text import format_judgement
from pneumo_keras.runs.finished import load_run
from pneumo_keras.runs.folder import RunFolder
from tests.films import load_phantom_splits, sort_by_class, write_films, write_splits
from tests.small import LEARNING

OTHERS = (40, 20, 30)


@pytest.fixture
def others():
    return load_phantom_splits(OTHERS, seed=7)


@pytest.fixture
def clinic(tmp_path, others):
    """A folder of other films, without splits."""
    write_films(tmp_path / "clinic", others["test"])
    return tmp_path / "clinic"


def list_files(path):
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def test_a_run_is_judged_on_all_films_of_a_folder_without_splits(train, clinic, others):
    run = train("run", "evaluation.rule=youden", "evaluation.calibration=platt", LEARNING)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    target, judgement = evaluate_other_films(run, OtherFilms(clinic), "test")
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
    assert judgement.evaluation.threshold == point["threshold"]
    assert judgement.evaluation.tp == int(((scores > point["threshold"]) & (labels == 1)).sum())


def test_other_films_get_the_scores_that_they_get_as_the_run_s_own(train, own_folder, same_file):
    own, run = train("own", *own_folder[1]), train("run", *own_folder[1])
    evaluate_run(own, "test")
    for path, name in ((own_folder[0], None), (same_file[0], "npz")):
        target, _ = evaluate_other_films(run, OtherFilms(path, name=name), "test")
        judged = [load_score_table(one.path / "scores_test.csv") for one in (target, own)]
        assert judged[0].scores.tolist() == judged[1].scores.tolist()
        assert (judged[0].files == judged[1].files) is (name is None)
        figures = [(one.path / "metrics_test.json").read_bytes() for one in (target, own)]
        assert figures[0] == figures[1]


@pytest.mark.parametrize("quality", [None, 75])
def test_larger_images_are_prepared_as_those_of_the_training_were(train, tmp_path, quality):
    """Trained on small images, judged on those that they were made from: the same scores."""
    large = load_phantom_splits(OTHERS, size=64)
    small = {split: shrink(films, quality) for split, films in large.items()}
    save_archive(tmp_path / "small.npz", {split: sort_by_class(films) for split, films in small.items()})
    run = train("run", "data.source=pneumonia_mnist", f"data.path={tmp_path / 'small.npz'}")
    assert load_run(run).preparation == Preparation(28, quality)
    evaluate_run(run, "test")
    write_films(tmp_path / "large", large["test"])
    target, _ = evaluate_other_films(run, OtherFilms(tmp_path / "large"), "test")
    own, others = (load_score_table(one.path / "scores_test.csv") for one in (run, target))
    assert own.scores.tolist() == others.scores.tolist()
    assert own.labels.tolist() == others.labels.tolist()
    assert "JPEG" not in (target.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("trained", "judged", "said"),
    [
        (75, None, "The images of the training were saved as JPEG of quality 75, these were not: their"),
        (None, 75, "The images of the training were not saved as JPEG, these were, of quality 75: their"),
    ],
)
def test_images_of_the_right_size_that_were_saved_otherwise_are_named(
    train, tmp_path, caplog, trained, judged, said
):
    large = load_phantom_splits(OTHERS, size=64)
    for name, quality in (("trained", trained), ("judged", judged)):
        splits = {split: shrink(films, quality) for split, films in large.items()}
        save_archive(tmp_path / f"{name}.npz", splits)
    run = train("run", "data.source=pneumonia_mnist", f"data.path={tmp_path / 'trained.npz'}")
    target, _ = evaluate_other_films(run, OtherFilms(tmp_path / "judged.npz"), "test")
    assert said in (target.path / "report.html").read_text()
    assert said in caplog.text


def shrink(films, quality):
    images = [prepare_image(Image.fromarray(image), Preparation(28, quality)) for image in films.images]
    return replace(films, images=np.stack(images))


def test_images_out_of_distribution_are_counted_in_the_metrics(train, tmp_path, others):
    inverted = replace(others["test"], images=255 - others["test"].images)
    write_films(tmp_path / "plain", others["test"])
    write_films(tmp_path / "inverted", inverted)
    run, counts = train(), []
    for name in ("plain", "inverted"):
        target, judgement = evaluate_other_films(run, OtherFilms(tmp_path / name), "test")
        written = json.loads((target.path / "metrics_test.json").read_text())["out_of_distribution"]
        assert judgement.out_of_distribution is not None
        assert written["outside"] + written["far_outside"] == judgement.out_of_distribution.n
        counts.append(judgement.out_of_distribution.n)
        assert "range of the training images" in (target.path / "report.html").read_text()
    assert counts[0] < 10 < counts[1]


def test_a_split_is_chosen_where_there_are_splits(train, tmp_path, others):
    write_splits(tmp_path / "clinic", others)
    run = train()
    for split, n in (("val", 20), ("test", 30)):
        target, judgement = evaluate_other_films(run, OtherFilms(tmp_path / "clinic"), split)
        assert judgement.evaluation.n == n
    about = json.loads((target.path / "environment.json").read_text())
    assert set(about["films"]) == {"val", "test"}
    assert "Nothing was fitted or chosen on these films." in (target.path / "report_val.html").read_text()


def test_films_without_splits_are_judged_together(train, clinic):
    with pytest.raises(DataError) as caught:
        evaluate_other_films(train(), OtherFilms(clinic), "val")
    assert str(caught.value) == (
        "clinic, 28 px: the films come without splits and are judged together. Received: --split val. Leave "
        "it out."
    )


def test_the_report_says_what_was_trained_on_and_what_is_judged(train, own_file, clinic):
    target, _ = evaluate_other_films(train("one", *own_file[1]), OtherFilms(clinic), "test")
    page = (target.path / "report.html").read_text()
    assert "<h1>one on clinic: test films</h1>" in page
    assert "Judged on other films than those of the training (films.npz, 28 px)." in page
    assert "It was trained on films.npz, 28 px, and knows films like those." in page
    assert "<b>clinic, 28 px.</b>" in page
    assert "Training films" not in page
    assert str(clinic.parent) not in page
    assert '<tr><th scope="row">data.title</th><td class="long">films.npz, 28 px</td></tr>' in page


def test_the_settings_name_the_films_that_were_judged(train, clinic, tmp_path, monkeypatch):
    run = train()
    monkeypatch.chdir(tmp_path)
    target, _ = evaluate_other_films(run, OtherFilms(Path("clinic"), name="own-name"), "test")
    config = load_config(str(target.path / "config.toml"))
    assert (config.data.source, config.data.path) == ("folder", Path("clinic"))
    assert config.model == load_config(str(run.path / "config.toml")).model
    about = json.loads((target.path / "environment.json").read_text())
    assert about["paths"] == {"data.path": str(clinic)}
    assert about["data"]["title"] == "clinic, 28 px"


def test_the_positive_class_is_that_of_the_run_or_another(train, tmp_path, others):
    write_films(tmp_path / "clinic", others["test"], classes=("none", "infiltrate"))
    run = train("run", "data.positive=none")
    path = tmp_path / "clinic"
    _, turned = evaluate_other_films(run, OtherFilms(path, name="turned"), "test")
    _, right = evaluate_other_films(run, OtherFilms(path, positive="infiltrate"), "test")
    assert (turned.evaluation.tp + turned.evaluation.fn, right.evaluation.tp + right.evaluation.fn) == (
        int((others["test"].labels == 0).sum()),
        int((others["test"].labels == 1).sum()),
    )


def test_an_evaluation_is_repeated_and_never_replaced_by_one_on_other_films(train, clinic, tmp_path, others):
    run = train()
    target, first = evaluate_other_films(run, OtherFilms(clinic), "test")
    assert evaluate_other_films(run, OtherFilms(clinic), "test")[1] == first
    (tmp_path / "elsewhere").mkdir()
    same, other = tmp_path / "elsewhere" / "clinic.npz", tmp_path / "clinic.npz"
    save_archive(same, {**others, "test": sort_by_class(others["test"])})
    again = evaluate_other_films(run, OtherFilms(same), "test")[1]
    assert again == first  # the same films, wherever they lie
    before = {path: path.read_bytes() for path in target.path.rglob("*") if path.is_file()}
    save_archive(other, load_phantom_splits(OTHERS, seed=8))
    for split in ("test", "val"):
        with pytest.raises(RunError) as caught:
            evaluate_other_films(run, OtherFilms(other), split)
        assert str(caught.value) == (
            f"{target.path} holds an evaluation on other films of that name. Give these another one with "
            "--name, or delete that folder."
        )
    assert {path: path.read_bytes() for path in target.path.rglob("*") if path.is_file()} == before
    evaluate_other_films(run, OtherFilms(other, name="others"), "test")


def test_films_that_were_trained_on_are_no_others(train, own_folder, tmp_path):
    plain = tmp_path / "plain"
    write_films(plain, load_phantom_splits((150, 2, 2), seed=7)["train"])
    run, whole = train("run", *own_folder[1]), train("whole", "data.source=folder", f"data.path={plain}")
    for folder, path, split in ((run, own_folder[0], "val"), (whole, plain, "test")):
        with pytest.raises(RunError) as caught:
            evaluate_other_films(folder, OtherFilms(path), split)
        assert str(caught.value) == (
            f"--data must name films that the run was not trained on. Received: {path}. Leave it out to "
            "judge the run on its own."
        )


def test_labels_that_changed_are_other_films(train, clinic):
    run = train()
    evaluate_other_films(run, OtherFilms(clinic), "test")
    with pytest.raises(RunError, match="--name"):
        evaluate_other_films(run, OtherFilms(clinic, positive="NORMAL"), "test")


def test_perturbation_and_a_stated_prevalence_work_on_other_films(train, clinic):
    target, judgement = evaluate_other_films(
        train(), OtherFilms(clinic), "test", prevalence=0.1, perturb=True
    )
    assert judgement.perturbed is not None
    assert judgement.evaluation.stated_prevalence == 0.1
    assert {"scores_test_prevalence_0.1.csv", "scores_test_perturbed_prevalence_0.1.csv"} <= list_files(
        target.path
    )


def test_the_films_of_the_run_need_not_be_there(train, own_file, clinic):
    run = train("run", *own_file[1])
    own_file[0].unlink()
    _, judgement = evaluate_other_films(run, OtherFilms(clinic), "test")
    assert judgement.evaluation.n == 30


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("chest films (v2).npz", "chest-films-v2"),
        ("films.v2.csv", "films.v2"),
        (".hidden.npz", "hidden"),
        ("()", "films"),
    ],
)
def test_films_are_called_like_their_file(tmp_path, path, name):
    assert choose_name(OtherFilms(tmp_path / path)) == name


def test_films_are_called_like_their_folder(tmp_path, monkeypatch):
    (tmp_path / "clinic.v2").mkdir()
    monkeypatch.chdir(tmp_path / "clinic.v2")
    assert choose_name(OtherFilms(Path())) == "clinic.v2"


@pytest.mark.parametrize("name", ["a/b", "..", "", "two words", "../x", "/x", "x" * 61])
def test_a_name_must_be_one_of_a_folder(name):
    with pytest.raises(RunError) as caught:
        choose_name(OtherFilms(Path("clinic"), name=name))
    assert (
        str(caught.value)
        == f"--name must be of 60 letters, digits, '_', '-' and '.' at most. Received: {name}"
    )


def test_an_evaluation_is_no_run(train, clinic):
    run = train()
    target, _ = evaluate_other_films(run, OtherFilms(clinic), "test")
    with pytest.raises(RunError) as caught:
        evaluate_run(RunFolder(target.path), "test")
    assert str(caught.value) == (
        f"RUN must be the folder of a run. {target.path} holds what {run.path} did on other films: name "
        "that one."
    )


def test_a_long_name_of_a_file_is_cut(tmp_path):
    assert choose_name(OtherFilms(tmp_path / ("胸" * 80 + ".npz"))) == "胸" * 60


def test_labels_that_are_swapped_are_said_to_be(train, clinic, caplog):
    folder = train("run", LEARNING, "training.epochs=10")
    _, judgement = evaluate_other_films(folder, OtherFilms(clinic, name="right"), "test")
    assert judgement.evaluation.figures["auc"].low > 0.5
    assert "backwards" not in caplog.text
    swapped = OtherFilms(clinic, positive="NORMAL", name="swapped")
    target, judgement = evaluate_other_films(folder, swapped, "test")
    assert judgement.evaluation.figures["auc"].high < 0.5
    (line,) = [line for line in caplog.messages if "backwards" in line]
    assert line.startswith(f"films of {clinic.name}") and "data.positive" in line
    assert "scores rank the images backwards" in (target.path / "report.html").read_text()


@pytest.mark.parametrize("form", ["folder", "npz"])
@pytest.mark.parametrize("label", [0, 1])
def test_what_is_defined_of_images_of_one_class_is_given(train, tmp_path, others, label, form):
    of_class = {
        split: FilmArray(films.images[films.labels == label], films.labels[films.labels == label])
        for split, films in others.items()
    }
    path = tmp_path / ("clinic" if form == "folder" else "clinic.npz")
    if form == "folder":
        write_films(path, of_class["test"])
    else:
        save_archive(path, {**others, "test": of_class["test"]})
    runs = [train("one"), train("two", LEARNING)]
    (target, judgement), (again, _) = (
        evaluate_other_films(run, OtherFilms(path), "test", perturb=True) for run in runs
    )
    figures, counts = judgement.evaluation.figures, judgement.evaluation.counts
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
    text = format_judgement(judgement, heading="")
    assert sentence in text and sentence in (target.path / "report.html").read_text()
    assert "nan" not in text
    (found,) = compare_runs(target, [again], "test", tmp_path / "roc.png")
    assert not math.isnan(found.differences["accuracy"].value)
    assert math.isnan(found.differences["auc"].value)
    with pytest.raises(DataError, match="A stated prevalence takes normal and pneumonia films"):
        evaluate_other_films(runs[0], OtherFilms(path), "test", 0.1)
