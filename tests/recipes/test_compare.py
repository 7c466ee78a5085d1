import functools
import json

import pytest
from sklearn.metrics import roc_auc_score

from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.recipes.evaluate import evaluate_other_images
from pneumo_keras.runs.folder import extend_manifest
from pneumo_keras.runs.run import load_run
from tests.images import load_phantom_splits, write_images

pytestmark = pytest.mark.usefixtures("warm_cache", "without_plots")


def test_two_runs_are_compared_on_the_same_images(train):
    first, second = train("first"), train("second", "seed=7")
    picture = first.path / "roc.png"
    nothing, found = compare_runs(first, [first, second], "val", picture)
    assert {(one.value, one.p_value) for one in nothing.differences.values()} == {(0.0, 1.0)}
    assert (nothing.changed, found.changed) == ({}, {"seed": ("42", "7")})
    differences = found.differences
    assert picture.read_bytes().startswith(b"\x89PNG")
    labels, scores = load_scores(first.path / "scores_val.csv")
    _, others = load_scores(second.path / "scores_val.csv")
    expected = roc_auc_score(labels, others) - roc_auc_score(labels, scores)
    assert differences["auc"].value == pytest.approx(expected, abs=1e-12)
    assert differences["auc"].low <= expected <= differences["auc"].high


def test_runs_on_different_images_are_not_compared(train):
    first, second = train("first"), train("second", "data.phantom_images=[60, 32, 40]")
    with pytest.raises(RunError) as caught:
        compare_runs(first, [second], "val")
    assert str(caught.value) == (
        f"Runs can be compared only on the same images. {first.path} and {second.path} were scored on "
        "different validation images. The same files prepared differently, for instance at another size, are "
        "paired by their paths: evaluate both runs on one folder, with --data."
    )


def test_a_run_that_was_not_evaluated_is_named_with_the_command(train):
    first = train("first")
    with pytest.raises(RunError) as caught:
        compare_runs(first, [first], "test")
    assert str(caught.value) == (
        f"Runs must be evaluated before they are compared. {first.path} has no figures of test images: "
        f"pneumo-keras eval {first.path} --split test"
    )


def swap_scores(folder):
    """Two images with each other's scores: no figure of the run changes."""
    path = folder.path / "scores_val.csv"
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    first, second = [row for row in rows if row[1] == "1"][:2]
    assert first[2] != second[2]
    first[2], second[2] = second[2], first[2]
    path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")


def change_metrics(folder, **changes):
    path = folder.path / "metrics_val.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "change",
    [
        swap_scores,
        functools.partial(change_metrics, scores_sha256="other"),
        functools.partial(change_metrics, threshold=0.0),
        functools.partial(change_metrics, split="test"),
        functools.partial(change_metrics, stated_prevalence=0.5),
    ],
)
def test_scores_and_metrics_must_be_of_one_evaluation(train, change):
    first, second = train("first"), train("second", "seed=7")
    change(second)
    extend_manifest(second.path, ["scores_val.csv", "metrics_val.json"])
    with pytest.raises(RunError) as caught:
        compare_runs(first, [second], "val")
    assert str(caught.value) == (
        f"{second.path}/metrics_val.json must describe the scores in scores_val.csv: one of them was "
        "changed. Evaluate the run again."
    )


@pytest.mark.parametrize("part", ["scores", "metrics"])
def test_runs_evaluated_against_different_labels_are_not_compared(train, part):
    """The labels of the first run were believed for all."""
    first, second = train("first"), train("second", "seed=7")
    if part == "scores":
        path = second.path / "scores_val.csv"
        header, one, *rest = path.read_text().splitlines()
        index, label, score = one.split(",")
        path.write_text("\n".join([header, f"{index},{1 - int(label)},{score}", *rest]) + "\n")
    else:
        path = second.path / "metrics_val.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "labels_sha256": "other"}))
    with pytest.raises(RunError, match="is damaged or was changed"):
        compare_runs(first, [second], "val")
    extend_manifest(second.path, [path.name])
    with pytest.raises(RunError) as caught:
        compare_runs(first, [second], "val")
    assert str(caught.value) == (
        f"Runs can be compared only against the same labels. {first.path} and {second.path} were evaluated "
        "against different labels of the validation images."
    )


def test_runs_are_compared_on_other_images(train, tmp_path):
    clinic = tmp_path / "clinic"
    write_images(clinic, load_phantom_splits((40, 20, 30), seed=7)["test"])
    evaluated = [
        evaluate_other_images(load_run(train(name, *settings).path), clinic, "test")[0]
        for name, settings in (("first", []), ("second", ["seed=7"]))
    ]
    (found,) = compare_runs(evaluated[0], evaluated[1:], "test")
    assert found.changed == {"seed": ("42", "7")}
    first, second = (roc_auc_score(*load_scores(one.path / "scores_test.csv")) for one in evaluated)
    assert found.differences["auc"].value == pytest.approx(second - first, abs=1e-12)


def test_runs_that_prepare_the_files_of_a_folder_otherwise_are_paired_by_path(train, tmp_path):
    clinic, other = tmp_path / "clinic", tmp_path / "other"
    write_images(clinic, load_phantom_splits((40, 20, 30), seed=7)["test"])
    write_images(other, load_phantom_splits((40, 20, 30), seed=8)["test"])
    runs = [train("small"), train("large", "data.size=64")]
    first, second = (evaluate_other_images(load_run(run.path), clinic, "test")[0] for run in runs)
    (found,) = compare_runs(first, [second], "test", tmp_path / "roc.png")
    assert found.paired_by_path
    before, after = (roc_auc_score(*load_scores(one.path / "scores_test.csv")) for one in (first, second))
    assert found.differences["auc"].value == pytest.approx(after - before, abs=1e-12)
    # Files of the same names in another folder are other files.
    elsewhere, _ = evaluate_other_images(load_run(runs[1].path), other, "test")
    with pytest.raises(RunError, match="are paired by their paths: evaluate both runs on one folder"):
        compare_runs(first, [elsewhere], "test")
