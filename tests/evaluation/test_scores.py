import numpy as np
import pandas
import pytest
from sklearn.metrics import roc_auc_score

from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation import metrics
from pneumo_keras.evaluation.scores import (
    format_medmnist_scores,
    format_scores,
    load_score_table,
    load_scores,
    parse_scores,
    to_medmnist_name,
)

LABELS = np.array([0, 1, 1])
SCORES = np.array([0.1, 1e-17, 1.0])


@pytest.fixture
def medmnist_evaluator(capsys):
    import medmnist.evaluator

    capsys.readouterr()  # `import medmnist` prints a line when torch is missing
    return medmnist.evaluator


def test_scores_are_written_as_a_table_of_three_columns():
    assert format_scores(LABELS, SCORES) == "index,label,score\n0,0,0.1\n1,1,1e-17\n2,1,1.0\n"


def test_float64_scores_come_back_bit_for_bit():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 1000), rng.random(1000)
    text = format_scores(labels, scores)
    read = parse_scores(text, name="scores_test.csv")
    assert np.array_equal(read.labels, labels) and np.array_equal(read.scores, scores)
    assert format_scores(read.labels, read.scores) == text


def test_float32_scores_come_back_bit_for_bit():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 1000), rng.random(1000, dtype=np.float32)
    read = parse_scores(format_scores(labels, scores.astype(np.float64)), name="scores_test.csv")
    assert np.array_equal(read.scores.astype(np.float32), scores)


def test_scores_are_loaded_from_a_file(tmp_path):
    path = tmp_path / "scores_test.csv"
    path.write_text(format_scores(LABELS, SCORES))
    labels, scores = load_scores(path)
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 1]
    assert scores.dtype == np.float64 and scores.tolist() == SCORES.tolist()


AWKWARD = ("a, b/1.png", '"quoted" 2.png', "=1+1.png")


@pytest.mark.parametrize(
    ("files", "patients", "header"),
    [
        (AWKWARD, ("12", "", "a,b"), "index,label,score,path,patient"),
        (AWKWARD, None, "index,label,score,path"),
        (None, ("12", "", "a,b"), "index,label,score,patient"),
    ],
)
def test_files_and_patients_stand_behind_the_scores_where_they_are_known(tmp_path, files, patients, header):
    path = tmp_path / "scores_test.csv"
    path.write_text(format_scores(LABELS, SCORES, files, patients))
    assert path.read_text().startswith(f"{header}\n0,0,0.1,")
    read, table = load_score_table(path), pandas.read_csv(path, keep_default_na=False, dtype=str)
    assert read.scores.tolist() == SCORES.tolist() == load_scores(path)[1].tolist()
    assert (read.files, read.patients) == (files and (*files[:2], "./=1+1.png"), patients)
    for column, names in (("path", read.files), ("patient", read.patients)):
        assert names is None or tuple(table[column]) == names


def test_no_name_of_a_file_breaks_its_line_or_speaks_to_a_terminal():
    names = ("a\nb.png", "\x1b[31m.png", "\udcff.png")
    text = format_scores(LABELS, SCORES, names)
    assert len(text.splitlines()) == 4 and text.replace("\n", "").isprintable()
    assert parse_scores(text, name="s.csv").files == ("a\\nb.png", "\\x1b[31m.png", "\\udcff.png")


def test_lines_may_end_as_windows_ends_them():
    text = format_scores(LABELS, SCORES).replace("\n", "\r\n")
    assert parse_scores(text, name="scores_test.csv").scores.tolist() == SCORES.tolist()


def test_missing_scores_are_named(tmp_path):
    with pytest.raises(RunError) as error:
        load_scores(tmp_path / "scores_test.csv")
    assert str(error.value) == f"There are no scores at '{tmp_path}/scores_test.csv'. Evaluate the run first."


def test_scores_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "scores_test.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not text in UTF-8"):
        load_scores(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.csv must open with the line 'index,label,score'. Received: ''."),
        (
            "index,score\n0,0.5\n",
            "s.csv must open with the line 'index,label,score'. Received: 'index,score'.",
        ),
        (
            "index,label,score,patient,path\n0,1,0.5,a,b\n",
            "s.csv must open with the line 'index,label,score'. Received: 'index,label,score,patient,path'.",
        ),
        (
            "index,label,score,path\n0,1,0.5,a.png\n1,0,0.5\n",
            "s.csv, line 3, must have an index, a label and a score, as eval writes them. "
            "Received: '1,0,0.5'.",
        ),
        ("index,label,score\n", "s.csv: There is nothing to evaluate without images. Received: 0 images."),
        (
            "index,label,score\n0,1,0.5\n1,0\n",
            "s.csv, line 3, must have an index, a label and a score, as eval writes them. Received: '1,0'.",
        ),
        (
            "index,label,score\n0,yes,0.5\n",
            "s.csv, line 2, must have an index, a label and a score, as eval writes them. "
            "Received: '0,yes,0.5'.",
        ),
        (
            "index,label,score\n0,1,0.5\n2,1,0.5\n",
            "s.csv, line 3, must be of image 1: images are counted from 0 without gaps. Received: image 2.",
        ),
        (
            "index,label,score\n0,2,0.5\n",
            "s.csv: A label is 0 (normal) or 1 (pneumonia). Received: 2 for image 0.",
        ),
        (
            "index,label,score\n0,1,0.5\n1,1,1.5\n",
            "s.csv: A score is a probability in [0, 1]. Received: 1.5 for image 1.",
        ),
        (
            "index,label,score\n0,1,nan\n",
            "s.csv: A score is a probability in [0, 1]. Received: nan for image 0.",
        ),
    ],
)
def test_damaged_scores_are_named(text, message):
    with pytest.raises(DataError) as error:
        parse_scores(text, name="s.csv")
    assert str(error.value) == message


def test_medmnist_reads_our_result_file_and_agrees(tmp_path, capsys, draw_images, medmnist_evaluator):
    labels, scores = draw_images(auc=0.8, digits=2)
    np.savez(tmp_path / "pneumoniamnist.npz", test_labels=labels[:, None].astype(np.uint8))
    auc = roc_auc_score(labels, scores)
    accuracy = metrics.to_accuracy(metrics.count_confusions(labels, scores, 0.5))
    path = tmp_path / to_medmnist_name(split="test", auc=auc, accuracy=accuracy, run="seed-42")
    path.write_text(format_medmnist_scores(scores))

    class LocalEvaluator(medmnist_evaluator.Evaluator):
        def __init__(self, flag, split, size=None):
            super().__init__(flag, split, size=size, root=str(tmp_path))

    read = LocalEvaluator.parse_and_evaluate(str(path))
    assert np.sum(scores == 0.5) > 0  # the threshold's own score must fall on the same side
    assert pytest.approx(auc, abs=1e-12) == read.AUC
    assert accuracy == read.ACC
    # The evaluator writes the file again, under the name it would choose itself.
    assert sorted(file.name for file in tmp_path.glob("*.csv")) == [path.name]
    capsys.readouterr()


def test_our_result_file_is_the_one_medmnist_writes(draw_images):
    _, scores = draw_images()
    assert format_medmnist_scores(scores) == pandas.DataFrame(scores[:, None]).to_csv(
        header=False, lineterminator="\n"
    )


def test_result_files_of_larger_images_carry_their_size():
    name = to_medmnist_name(split="val", auc=0.88894, accuracy=0.7997, run="3", size=224)
    assert name == "pneumoniamnist_224_val_[AUC]0.889_[ACC]0.800@3.csv"


@pytest.mark.parametrize("run", ["", "a@b", "1.0", "a/b", "a\\b"])
def test_a_run_that_medmnist_would_cut_short_is_an_error(run):
    with pytest.raises(DataError, match="name a run without"):
        to_medmnist_name(split="test", auc=0.9, accuracy=0.8, run=run)
