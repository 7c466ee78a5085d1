import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from pneumo_keras.config import change_config
from pneumo_keras.data.pneumonia_mnist import catalog
from pneumo_keras.evaluation.scores import load_score_table, load_scores
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.recipes.evaluate import evaluate_run, to_part_of_name
from pneumo_keras.reporting.evaluation_text import format_evaluation
from tests.images import load_archive

pytestmark = pytest.mark.usefixtures("warm_cache", "without_plots")


def list_files(run):
    paths = [path for path in run.folder.path.rglob("*") if path.is_file() and path.name != "manifest.sha256"]
    return {str(path.relative_to(run.folder.path)): path.read_bytes() for path in paths}


def load(run, name):
    return json.loads((run.folder.path / name).read_text())


def test_the_operating_point_of_the_run_is_applied(run):
    evaluation = evaluate_run(
        replace(run, operating_point=replace(run.operating_point, threshold=0.7)), "test"
    )
    assert evaluation.threshold == 0.7
    metrics = load(run, "metrics_test.json")
    labels, scores = load_scores(run.folder.path / "scores_test.csv")
    assert metrics["counts"]["tp"] == int(((scores > 0.7) & (labels == 1)).sum())
    assert metrics["at_0.5"]["counts"]["tp"] == int(((scores > 0.5) & (labels == 1)).sum())


def test_a_stated_prevalence_gets_files_of_its_own_and_changes_no_prediction(run):
    before = evaluate_run(run, "test")
    plain = list_files(run)
    _, scores = load_scores(run.folder.path / "scores_test.csv")
    after = evaluate_run(run, "test", prevalence=0.1)
    files = list_files(run)
    assert {name: files[name] for name in plain} == plain
    assert files.keys() - plain.keys() == {
        "figures/summary_prevalence_0.1.png",
        "metrics_test_prevalence_0.1.json",
        "report_prevalence_0.1.html",
        "scores_test_prevalence_0.1.csv",
    }
    _, corrected = load_scores(run.folder.path / "scores_test_prevalence_0.1.csv")
    np.testing.assert_allclose(logit(corrected), logit(scores) + logit(0.1) - logit(0.5), atol=1e-4)
    for one, other in ((before, after), (before.at_half, after.at_half)):
        assert other.counts == one.counts
        assert other.figures["auc"].value == pytest.approx(one.figures["auc"].value, abs=1e-12)
        sensitivity, specificity = (one.figures[name].value for name in ("sensitivity", "specificity"))
        found, alarms = 0.1 * sensitivity, 0.9 * (1 - specificity)
        assert other.figures["precision_pneumonia"].value == pytest.approx(found / (found + alarms))
        assert other.figures["prevalence"].value == 0.1
    written = load(run, "metrics_test_prevalence_0.1.json")
    assert (written["stated_prevalence"], written["trained_prevalence"]) == (0.1, 0.5)
    assert "corrected to a prevalence of 10 %" in files["report_prevalence_0.1.html"].decode()


def test_medmnist_reads_the_scores_of_its_own_file_and_agrees(run_of_npz, monkeypatch):
    from medmnist.evaluator import getACC, getAUC

    path = run_of_npz.folder.path.with_name("images.npz")
    release = replace(catalog.load_release(28), md5=hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(catalog, "load_release", lambda size: release)
    evaluation = evaluate_run(run_of_npz, "test")
    (file,) = run_of_npz.folder.path.glob("pneumoniamnist_test_*@of-npz.csv")
    labels = load_archive(path, "test", size=28).labels[:, None]
    scores = np.loadtxt(file, delimiter=",")[:, 1:]
    figures = evaluation.at_half.figures
    assert getAUC(labels, scores, "binary-class") == pytest.approx(figures["auc"].value, abs=1e-12)
    assert getACC(labels, scores, "binary-class") == pytest.approx(figures["accuracy"].value, abs=1e-12)


def test_a_folder_and_an_npz_of_the_same_images_give_the_same_scores_and_are_described(
    run_of_folder, run_of_npz, tmp_path
):
    for run in (run_of_folder, run_of_npz):
        evaluate_run(run, "test")
        files = list_files(run)
        assert not [name for name in files if name.startswith("pneumoniamnist")]
        page = files["report.html"].decode()
        assert str(tmp_path) not in page
        assert "published by MedMNIST" not in page
    for name in ("scores_val.csv", "scores_test.csv"):
        ours, theirs = (load_score_table(run.folder.path / name) for run in (run_of_folder, run_of_npz))
        assert ours.scores.tolist() == theirs.scores.tolist()
        assert ours.labels.tolist() == theirs.labels.tolist()
        assert ours.files is not None and theirs.files is None
    of_folder, of_npz = run_of_folder.environment["data"], run_of_npz.environment["data"]
    assert (of_folder["title"], of_folder["files"]) == ("clinic, 28 px", {})
    assert of_folder["preparation"] == {"size": 28, "jpeg_quality": None}
    assert of_npz["title"] == "images.npz, 28 px"
    assert "not the official file of PneumoniaMNIST" in of_npz["notice"]
    digest = hashlib.sha256((tmp_path / "images.npz").read_bytes()).hexdigest()
    assert of_npz["files"] == {"images.npz": digest}


def test_a_perturbed_evaluation_is_written_next_to_the_plain_one(run):
    before = evaluate_run(run, "test")
    plain = {name: content for name, content in list_files(run).items() if name.endswith(".csv")}
    after = evaluate_run(run, "test", perturb=True)
    files = list_files(run)
    assert before.perturbed is None
    assert replace(after, perturbed=None) == before
    assert {name: files[name] for name in plain} == plain
    new = {name for name in files if "perturb" in name}
    assert new == {
        "metrics_test_perturbed.json",
        "scores_test_perturbed.csv",
        "figures/perturbations.png",
    }
    labels, scores = load_scores(run.folder.path / "scores_test_perturbed.csv")
    auc = after.perturbed.figures["auc"].value
    assert auc == pytest.approx(roc_auc_score(labels, scores))
    plain_auc = before.figures["auc"].value
    assert after.perturbed.changes["auc"].value == pytest.approx(auc - plain_auc) != 0
    assert load(run, "metrics_test_perturbed.json")["perturbation"]["zoom"] == 1.35
    assert load(run, "metrics_test.json")["perturbed"] is None
    page = files["report.html"].decode()
    assert "<h3>Perturbed</h3>" in page
    assert page.count(" perturbed, labelled ") == 6


def test_no_perturbation_at_all_changes_no_score(run):
    still = {"rotation_degrees": 0.0, "zoom": 1.0, "aspect": 1.0, "shift": 0.0, "gamma": 1.0}
    still |= {"brightness": 0.0, "contrast": 0.0, "horizontal_flip": False}
    config = change_config(run.config, {f"perturbation.{name}": value for name, value in still.items()})
    evaluate_run(replace(run, config=config), "test", perturb=True)
    _, plain = load_scores(run.folder.path / "scores_test.csv")
    _, perturbed = load_scores(run.folder.path / "scores_test_perturbed.csv")
    np.testing.assert_allclose(perturbed, plain, atol=1e-5)


def test_perturbation_and_a_stated_prevalence_go_together(run):
    evaluation = evaluate_run(run, "test", prevalence=0.1, perturb=True)
    plain, perturbed = evaluation, evaluation.perturbed
    assert perturbed.stated_prevalence == 0.1
    changes = {name: one.value for name, one in evaluation.perturbed.changes.items()}
    assert changes == pytest.approx(
        {name: perturbed.figures[name].value - plain.figures[name].value for name in changes}, nan_ok=True
    )
    mean = load(run, "metrics_test_perturbed_prevalence_0.1.json")["robustness"]["kinds"]["rotation"]["mean"]
    assert mean["accuracy"] == pytest.approx(0.1 * mean["sensitivity"] + 0.9 * mean["specificity"])
    files = list_files(run)
    assert {"scores_test_perturbed_prevalence_0.1.csv", "figures/perturbations_prevalence_0.1.png"} <= {
        *files
    }
    assert "scores_test_perturbed.csv" not in files


@pytest.mark.parametrize(
    ("run_name", "part"), [("a b/c.d", "a-b-c-d"), ("x" * 255, "x" * 100), ("ü" * 80, "ü" * 50)]
)
def test_the_name_of_a_run_fits_into_that_of_a_file(run_name, part):
    assert to_part_of_name(run_name) == part


def test_intervals_resample_patients_and_new_ones_are_listed_with_all(run_of_folder):
    """Images of 15 patients, ten of whom the training images show, too."""
    trained = load(run_of_folder, "metrics_val.json")
    evaluation = evaluate_run(run_of_folder, "val", perturb=True)
    assert evaluation.patients.all == 15
    assert evaluation.figures["auc"].method == "DeLong, logit, by patient"
    assert evaluation.new_patients.n == 10
    assert evaluation.new_patients.patients.all == 5
    assert evaluation.perturbed.changes["auc"].method == "DeLong, paired, by patient"
    written = load(run_of_folder, "metrics_val.json")
    assert written["patients"]["all"] == 15
    assert written["new_patients"]["n"] == 10
    assert (trained["figures"], trained["new_patients"]) == (written["figures"], written["new_patients"])
    expected = [
        "intervals take the images of each of the 15 patients of the 30 images together (",
        "10 of 30 images are of known patients with no known image among those that the run learnt from",
    ]
    text, page = (
        format_evaluation(evaluation, heading=""),
        list_files(run_of_folder)["report_val.html"].decode(),
    )
    assert all(sentence in text and sentence in page for sentence in expected)
    assert "the 10 of new patients" in text
    (same,) = compare_runs(run_of_folder.folder, [run_of_folder.folder], "val")
    assert same.patients == evaluation.patients


def test_a_report_does_not_mention_patients_where_they_are_unknown(run_of_npz):
    evaluation = evaluate_run(run_of_npz, "val")
    assert (evaluation.patients, evaluation.new_patients) == (None, None)
    assert "patient" not in format_evaluation(evaluation, heading="")
