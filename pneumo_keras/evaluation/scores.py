"""Scores as text: our `scores_<split>.csv` and MedMNIST's standard result file.

Nothing here writes files: the caller does, whole or not at all.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError, RunError

HEADER = "index,label,score"


def check_scores(labels: Int64[np.ndarray, " labels"], scores: Float64[np.ndarray, " scores"]) -> None:
    """Checks that there are films, each with one label (0 or 1) and one score in [0, 1].

    Raises:
        DataError: Something is missing or out of its range.
    """
    if len(labels) != len(scores):
        raise DataError(
            f"Every film needs one label and one score. Received: {len(labels)} labels, {len(scores)} scores."
        )
    if not len(labels):
        raise DataError("There is nothing to evaluate without films. Received: 0 films.")
    strange = np.flatnonzero((labels != 0) & (labels != 1))
    if len(strange):
        film = strange[0]
        raise DataError(f"A label is 0 (normal) or 1 (pneumonia). Received: {labels[film]} for film {film}.")
    strange = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(strange):
        film = strange[0]
        raise DataError(f"A score is a probability in [0, 1]. Received: {scores[film]} for film {film}.")


def format_scores(labels: Labels, scores: Scores) -> str:
    """Text of `scores_<split>.csv`: header `index,label,score`, films in the order of the split.

    Scores carry the fewest digits that read back as the same float64 (so float32 scores, widened,
    read back exactly too): the same scores give the same bytes.

    Raises:
        DataError: See `check_scores`.
    """
    check_scores(labels, scores)
    rows = zip(labels.tolist(), scores.tolist(), strict=True)
    lines = [f"{index},{label},{score!r}" for index, (label, score) in enumerate(rows)]
    return "\n".join([HEADER, *lines]) + "\n"


def parse_scores(text: str, *, name: str) -> tuple[Labels, Scores]:
    """Labels and scores from the text of a `scores_<split>.csv`.

    Args:
        text: The whole file.
        name: The file, for error messages.

    Raises:
        DataError: The columns, the order of the films, a label or a score is not as it should be.
    """
    header, *lines = text.splitlines() or [""]
    if header != HEADER:
        raise DataError(f"{name} must open with the line '{HEADER}'. Received: '{header}'.")
    rows = [_parse_row(line, index, name) for index, line in enumerate(lines)]
    labels = np.array([label for label, _ in rows], dtype=np.int64)
    scores = np.array([score for _, score in rows], dtype=np.float64)
    try:
        check_scores(labels, scores)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    return labels, scores


def _parse_row(line: str, index: int, name: str) -> tuple[int, float]:
    try:
        found, label, score = line.split(",")
        row = int(found), int(label), float(score)
    except ValueError:
        raise DataError(
            f"{name}, line {index + 2}, must hold an index, a label and a score. Received: '{line}'."
        ) from None
    if row[0] != index:
        raise DataError(
            f"{name}, line {index + 2}, must hold film {index}: films are counted from 0 without gaps. "
            f"Received: film {row[0]}."
        )
    return row[1:]


def load_scores(path: Path) -> tuple[Labels, Scores]:
    """Labels and scores from a `scores_<split>.csv`.

    Raises:
        RunError: There is no such file.
        DataError: See `parse_scores`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(f"There are no scores at '{path}'. Evaluate the run first.") from None
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is not text in UTF-8. Evaluate the run again.") from None
    return parse_scores(text, name=str(path))


def format_medmnist_scores(scores: Scores) -> str:
    """Text of MedMNIST's standard result file for a binary data set: `index,score`, no header."""
    return "".join(f"{index},{score!r}\n" for index, score in enumerate(scores.tolist()))


def to_medmnist_name(*, split: str, auc: float, accuracy: float, run: str, size: int = 28) -> str:
    """Name by which MedMNIST's evaluator knows the data set, the size and the split of a result file.

    Args:
        split: `train`, `val` or `test`.
        auc: Area under the ROC curve.
        accuracy: At MedMNIST's threshold, 0.5, not at the run's operating point.
        run: Anything without `@`, `.` or a path separator; the evaluator cuts the name there.
        size: Pixels a side of the source films: 28, 64, 128 or 224.

    Raises:
        DataError: `run` would be cut short.

    References:
        `medmnist.evaluator.Evaluator.parse_and_evaluate`, MedMNIST 3.0.2.
    """
    if not run or any(mark in run for mark in "@./\\"):
        raise DataError(
            f"MedMNIST's result files name a run without '@', '.', '/' or '\\'. Received: '{run}'."
        )
    enlarged = "" if size == 28 else f"_{size}"
    return f"pneumoniamnist{enlarged}_{split}_[AUC]{auc:.3f}_[ACC]{accuracy:.3f}@{run}.csv"
