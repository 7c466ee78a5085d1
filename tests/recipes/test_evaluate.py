import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from pneumo_keras.data import pneumonia_mnist
from pneumo_keras.data.pneumonia_mnist import catalog
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.scores import load_score_table, load_scores
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.recipes.evaluate import evaluate_run, to_part_of_name
from pneumo_keras.reporting.evaluation_text import format_evaluation
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.manifest import extend_manifest
from tests.images import load_phantom_splits
from tests.small import COUNTS


def test_the_operating_point_of_the_run_is_applied(train):
    folder = train("run", "evaluation.rule=fixed", "evaluation.threshold=0.7")
    evaluation = evaluate_run(folder, "test").evaluation
    assert evaluation.threshold == 0.7
    metrics = json.loads((folder.path / "metrics_test.json").read_text())
    labels, scores = load_scores(folder.path / "scores_test.csv")
    assert metrics["tp"] == int(((scores > 0.7) & (labels == 1)).sum())
    assert metrics["at_0.5"]["tp"] == int(((scores > 0.5) & (labels == 1)).sum())


def test_a_folder_that_is_no_run_gets_one_line(tmp_path):
    with pytest.raises(RunError) as caught:
        evaluate_run(RunFolder(tmp_path), "test")
    assert str(caught.value) == (
        f"RUN must be the folder of a run, with a config.toml. {tmp_path} is none: train one with "
        f"pneumo-keras train --run {tmp_path}"
    )


def test_an_unfinished_run_gets_one_line(train):
    folder = train()
    (folder.path / "manifest.sha256").unlink()
    (folder.path / "unfinished.json").touch()
    with pytest.raises(RunError) as caught:
        evaluate_run(folder, "test")
    assert str(caught.value) == (
        f"{folder.path} holds a run that was not finished. Go on with it: pneumo-keras train --run "
        f"{folder.path} --resume, or delete it."
    )


def test_a_stated_prevalence_is_written_beside_the_plain_result_and_changes_no_call(train):
    folder = train("run", "evaluation.rule=youden")
    before = evaluate_run(folder, "test")
    plain = {path: path.read_bytes() for path in folder.path.rglob("*.*") if path.name != "manifest.sha256"}
    _, scores = load_scores(folder.path / "scores_test.csv")
    after = evaluate_run(folder, "test", prevalence=0.1)
    assert {path: path.read_bytes() for path in plain} == plain
    new = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*.*") if path not in plain}
    new -= {"manifest.sha256"}
    assert new == {
        "figures/summary_prevalence_0.1.png",
        "metrics_test_prevalence_0.1.json",
        "report_prevalence_0.1.html",
        "scores_test_prevalence_0.1.csv",
    }
    _, corrected = load_scores(folder.path / "scores_test_prevalence_0.1.csv")
    np.testing.assert_allclose(logit(corrected), logit(scores) + logit(0.1) - logit(0.5), atol=1e-4)
    for one, other in ((before.at_threshold, after.at_threshold), (before.at_half, after.at_half)):
        assert other.counts == one.counts
        assert other.figures["auc"].value == pytest.approx(one.figures["auc"].value, abs=1e-12)
        sensitivity, specificity = (one.figures[name].value for name in ("sensitivity", "specificity"))
        found, alarms = 0.1 * sensitivity, 0.9 * (1 - specificity)
        assert other.figures["precision_pneumonia"].value == pytest.approx(found / (found + alarms))
        assert other.figures["prevalence"].value == 0.1
    written = json.loads((folder.path / "metrics_test_prevalence_0.1.json").read_text())
    assert (written["stated_prevalence"], written["trained_prevalence"]) == (0.1, 0.5)
    assert "corrected to a prevalence of 10 %" in (folder.path / "report_prevalence_0.1.html").read_text()


@pytest.fixture
def official(own_file, monkeypatch):
    """The user's file taken for the published one."""
    path, overrides = own_file
    release = replace(catalog.load_release(28), md5=hashlib.md5(path.read_bytes()).hexdigest(), sha256=None)
    monkeypatch.setattr(pneumonia_mnist, "load_release", lambda size: release)
    return overrides


@pytest.mark.parametrize("split", ["val", "test"])
def test_medmnist_reads_our_scores_and_agrees(train, official, split):
    from medmnist.evaluator import getACC, getAUC

    folder = train("run", *official)
    evaluation = evaluate_run(folder, split).evaluation
    (path,) = folder.path.glob(f"pneumoniamnist_{split}_*@run.csv")
    images = load_phantom_splits(COUNTS)[split]
    scores = np.loadtxt(path, delimiter=",")[:, 1:]
    auc, accuracy = evaluation.figures["auc"].value, evaluation.figures["accuracy"].value
    assert getAUC(images.labels[:, None], scores, "binary-class") == pytest.approx(auc, abs=1e-12)
    assert getACC(images.labels[:, None], scores, "binary-class") == pytest.approx(accuracy, abs=1e-12)


def test_only_the_official_file_gets_the_name_of_pneumonia_mnist(train, own_file):
    phantoms, own = train("phantoms"), train("own", *own_file[1])
    for folder in (phantoms, own):
        evaluate_run(folder, "test")
        assert not list(folder.path.glob("pneumoniamnist*"))
    page = (own.path / "report.html").read_text()
    assert "images.npz" in page
    assert "published by MedMNIST" not in page
    about = json.loads((own.path / "environment.json").read_text())["data"]
    assert about["title"] == "images.npz, 28 px"
    assert "not the official PneumoniaMNIST" in about["notice"]
    assert about["files"] == {"images.npz": hashlib.sha256(own_file[0].read_bytes()).hexdigest()}


def test_a_folder_is_trained_and_evaluated_on_like_the_archive_of_the_same_images(
    train, own_folder, same_file
):
    folder, npz = train("folder", *own_folder[1]), train("npz", *same_file[1])
    for run in (folder, npz):
        evaluate_run(run, "test")
    assert (folder.path / "history.csv").read_bytes() == (npz.path / "history.csv").read_bytes()
    for name in ("scores_val.csv", "scores_test.csv"):
        ours, theirs = (load_score_table(run.path / name) for run in (folder, npz))
        assert ours.scores.tolist() == theirs.scores.tolist()
        assert ours.labels.tolist() == theirs.labels.tolist()
        assert ours.files is not None and theirs.files is None
    about = json.loads((folder.path / "environment.json").read_text())["data"]
    assert (about["title"], about["files"]) == ("clinic, 28 px", {})
    assert about["preparation"] == {"size": 28, "jpeg_quality": None}
    for path in folder.path.iterdir():
        assert "MNIST" not in path.name.upper()
        if path.suffix in {".html", ".json", ".toml", ".log", ".csv"}:
            assert "PneumoniaMNIST" not in path.read_text()
    assert "clinic, 28 px" in (folder.path / "report.html").read_text()


@pytest.mark.parametrize("source", ["own_file", "own_folder"])
def test_no_path_of_this_machine_is_in_the_report(train, request, source, tmp_path):
    folder = train("run", *request.getfixturevalue(source)[1])
    evaluate_run(folder, "test")
    assert str(tmp_path) not in (folder.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [("calibration.json", "{}"), ("operating_point.json", "[]"), ("history.csv", "")],
)
def test_all_of_a_run_is_checked_before_anything_of_it_is_replaced(train, name, text):
    folder = train()
    evaluate_run(folder, "test")
    (folder.path / name).write_text(text)
    extend_manifest(folder.path, [name])
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=name):
        evaluate_run(folder, "test")
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


def test_perturbation_is_written_beside_the_plain_result(train):
    folder = train("run", "training.members=2")
    before = evaluate_run(folder, "test")
    plain = {path: path.read_bytes() for path in folder.path.rglob("*.csv")}
    after = evaluate_run(folder, "test", perturb=True)
    assert before.perturbed is None
    assert replace(after, perturbed=None) == before
    assert {path: path.read_bytes() for path in plain} == plain
    new = {path.name for path in folder.path.rglob("*") if path.is_file() and "perturbed" in path.name}
    assert new == {"metrics_test_perturbed.json", "scores_test_perturbed.csv"}
    assert (folder.path / "figures/perturbations.png").is_file()
    labels, scores = load_scores(folder.path / "scores_test_perturbed.csv")
    auc = after.perturbed.evaluation.at_threshold.figures["auc"].value
    assert auc == pytest.approx(roc_auc_score(labels, scores))
    plain_auc = before.at_threshold.figures["auc"].value
    assert after.perturbed.changes["auc"].value == pytest.approx(auc - plain_auc) != 0
    written = json.loads((folder.path / "metrics_test_perturbed.json").read_text())
    assert written["combined"]["perturbation"]["zoom"] == 1.35
    assert json.loads((folder.path / "metrics_test.json").read_text())["perturbation"] is None
    assert len(after.perturbed.evaluation.members["auc"].values) == 2
    page = (folder.path / "report.html").read_text()
    assert "<h3>Perturbed</h3>" in page
    assert page.count(" perturbed, labelled ") == 6


def test_no_perturbation_at_all_changes_no_score(train):
    still = ["rotation_degrees=0", "horizontal_flip=false", "zoom=1", "aspect=1", "shift=0", "gamma=1"]
    folder = train("run", *(f"perturbation.{one}" for one in [*still, "brightness=0", "contrast=0"]))
    evaluate_run(folder, "test", perturb=True)
    _, plain = load_scores(folder.path / "scores_test.csv")
    _, perturbed = load_scores(folder.path / "scores_test_perturbed.csv")
    np.testing.assert_allclose(perturbed, plain, atol=1e-5)


def test_perturbation_and_a_stated_prevalence_go_together(train):
    folder = train()
    evaluation = evaluate_run(folder, "test", prevalence=0.1, perturb=True)
    plain, perturbed = evaluation.at_threshold, evaluation.perturbed.evaluation.at_threshold
    assert perturbed.stated_prevalence == 0.1
    changes = {name: one.value for name, one in evaluation.perturbed.changes.items()}
    assert changes == pytest.approx(
        {name: perturbed.figures[name].value - plain.figures[name].value for name in changes}, nan_ok=True
    )
    kinds = json.loads((folder.path / "metrics_test_perturbed_prevalence_0.1.json").read_text())["kinds"]
    mean = kinds["rotation"]["mean"]
    assert mean["accuracy"] == pytest.approx(0.1 * mean["sensitivity"] + 0.9 * mean["specificity"])
    assert (folder.path / "scores_test_perturbed_prevalence_0.1.csv").is_file()
    assert (folder.path / "figures/perturbations_prevalence_0.1.png").is_file()
    assert not (folder.path / "scores_test_perturbed.csv").exists()


@pytest.mark.parametrize(
    ("run", "part"), [("a b/c.d", "a-b-c-d"), ("x" * 255, "x" * 100), ("ü" * 80, "ü" * 50)]
)
def test_a_run_of_any_name_has_room_in_that_of_a_file(run, part):
    assert to_part_of_name(run) == part


def test_intervals_resample_patients_and_new_ones_stand_beside_all(train, patients_folder):
    """Images of 15 patients, ten of whom the training images show, too."""
    folder = train("run", *patients_folder)
    trained = json.loads((folder.path / "metrics_val.json").read_text())
    evaluation = evaluate_run(folder, "val", perturb=True)
    assert evaluation.at_threshold.patients.all == 15
    assert evaluation.at_threshold.figures["auc"].method == "DeLong, logit, by patient"
    assert evaluation.new_patients.n == 10
    assert evaluation.new_patients.patients.all == 5
    assert evaluation.perturbed.changes["auc"].method == "DeLong, paired, by patient"
    written = json.loads((folder.path / "metrics_val.json").read_text())
    assert written["patients"]["all"] == 15
    assert written["new_patients"]["n"] == 10
    assert (trained["figures"], trained["new_patients"]) == (written["figures"], written["new_patients"])
    said = [
        "intervals resample the 15 patients of the 30 images (",
        "10 of 30 images are of known patients of whom the run has learnt from no image",
    ]
    for text in (
        format_evaluation(evaluation, heading=""),
        (folder.path / "report_val.html").read_text(),
    ):
        assert all(sentence in text for sentence in said)
    assert "the 10 of new patients" in format_evaluation(evaluation, heading="")
    (same,) = compare_runs(folder, [folder], "val")
    assert same.patients == evaluation.at_threshold.patients


def test_nothing_is_said_of_patients_where_none_is_known(train, own_folder):
    folder = train("run", *own_folder[1])
    evaluation = evaluate_run(folder, "val")
    assert (evaluation.at_threshold.patients, evaluation.new_patients) == (None, None)
    assert "patient" not in format_evaluation(evaluation, heading="")
