"""Scores as text: our `scores_<split>.csv` and MedMNIST's standard result file.

Nothing here writes files: the caller does, atomically.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.metrics import check_scores
from pneumo_keras.storage.bounded_reading import read_text
from pneumo_keras.storage.printable import to_cell

HEADER = "index,label,score"
NAMES = ("path", "patient")  # columns behind those, each where it is known
MOST_BYTES = 1 << 28  # of a file of scores: ten million images
LABEL_DIGITS = 9  # of a label: a longer one is damage
SHOWN = 100  # characters of a line that is not as it should be
RUN_BYTES = 120  # of the name of a run in that of a file, which may have 255


@dataclass(frozen=True)
class ScoreTable:
    """A `scores_<split>.csv`: images in the order of the split; a patient who is unknown is ""."""

    labels: Labels
    scores: Scores
    files: tuple[str, ...] | None = None
    patients: tuple[str, ...] | None = None


def format_scores(
    labels: Labels,
    scores: Scores,
    files: Sequence[str] | None = None,
    patients: Sequence[str] | None = None,
) -> str:
    """Text of `scores_<split>.csv`: `index,label,score`, then `path` and `patient` where they are known.

    Scores have the fewest digits that read back as the same float64 (so float32 scores, widened, read back
    exactly too): the same scores give the same bytes.

    Raises:
        DataError: See `check_scores`.
    """
    check_scores(labels, scores)
    named = zip(NAMES, (files, patients), strict=True)
    known = {name: [to_cell(cell) for cell in column] for name, column in named if column is not None}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*HEADER.split(","), *known])
    columns = (range(len(labels)), labels.tolist(), map(repr, scores.tolist()), *known.values())
    rows.writerows(zip(*columns, strict=True))
    return text.getvalue()


def parse_scores(text: str, *, name: str) -> ScoreTable:
    """Reads the text of the file `name`, which is named in errors.

    Raises:
        DataError: The columns, the order of the images, a label or a score is not as it should be.
    """
    header, *lines = text.replace("\r\n", "\n").split("\n")
    named = tuple(name for name in NAMES if f",{name}" in header)
    if header != ",".join([HEADER, *named]):
        raise DataError(f"{name} must open with the line '{HEADER}'. Received: '{header[:SHOWN]}'.")
    if not lines or lines.pop():
        raise DataError(f"{name} must end with the end of a line: it was cut short.")
    rows = [_parse_row(line, index, name, named=len(named)) for index, line in enumerate(lines)]
    labels = np.array([label for label, *_ in rows], dtype=np.int64)
    scores = np.array([score for _, score, _ in rows], dtype=np.float64)
    try:
        check_scores(labels, scores)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    columns = dict(zip(named, zip(*(names for *_, names in rows), strict=True), strict=True))
    return ScoreTable(labels, scores, columns.get("path"), columns.get("patient"))


def _parse_row(line: str, index: int, name: str, *, named: int) -> tuple[int, float, list[str]]:
    try:
        cells = next(csv.reader([line], strict=True))
        row = int(cells[0]), int(cells[1]), float(cells[2])
        # Python takes ' 1', '1_0' and digits of any script, too.
        if [repr(number) for number in row] != line.split(",", 3)[:3] or len(cells[1]) > LABEL_DIGITS:
            raise ValueError
        if len(cells) != len(row) + named:
            raise ValueError
    except (ValueError, IndexError, StopIteration, csv.Error):
        raise DataError(
            f"{name}, line {index + 2}, must have an index, a label and a score, as eval writes them. "
            f"Received: '{line[:SHOWN]}'."
        ) from None
    if row[0] != index:
        raise DataError(
            f"{name}, line {index + 2}, must be of image {index}: images are counted from 0 without gaps. "
            f"Received: image {row[0]}."
        )
    return *row[1:], cells[len(row) :]


def load_scores(path: Path) -> tuple[Labels, Scores]:
    """Labels and scores from a `scores_<split>.csv`; see `load_score_table`."""
    table = load_score_table(path)
    return table.labels, table.scores


def load_score_table(path: Path) -> ScoreTable:
    """Reads a `scores_<split>.csv`; a RunError where there is none, a DataError where it is damaged."""
    try:
        text = read_text(path, most=MOST_BYTES)
    except FileNotFoundError:
        raise RunError(f"There are no scores at '{path}'. Evaluate the run first.") from None
    except OSError as error:
        raise RunError(f"'{path}' cannot be read: {error.strerror}. Evaluate the run again.") from error
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is not text in UTF-8. Evaluate the run again.") from None
    return parse_scores(text, name=str(path))


def hash_scores(labels: Labels, scores: Scores) -> str:
    """SHA-256 of the text of a `scores_<split>.csv`."""
    return hashlib.sha256(format_scores(labels, scores).encode()).hexdigest()


def format_medmnist_scores(scores: Scores) -> str:
    """Text of MedMNIST's standard result file for a binary data set: `index,score`, no header."""
    return "".join(f"{index},{score!r}\n" for index, score in enumerate(scores.tolist()))


def to_medmnist_name(*, split: str, auc: float, accuracy: float, run: str, size: int = 28) -> str:
    """Name from which MedMNIST's evaluator reads the data set, the size and the split of a result file.

    The accuracy is that at MedMNIST's threshold, 0.5, not at the run's operating point; a long name of a run
    is cut.

    Raises:
        DataError: `run` has a `@`, `.` or path separator, where the evaluator would cut it.

    References:
        `medmnist.evaluator.Evaluator.parse_and_evaluate`, MedMNIST 3.0.2.
    """
    if not run or any(mark in run for mark in "@./\\"):
        raise DataError(
            f"MedMNIST's result files name a run without '@', '.', '/' or '\\'. Received: '{run}'."
        )
    run = run.encode()[:RUN_BYTES].decode(errors="ignore")
    enlarged = "" if size == 28 else f"_{size}"
    return f"pneumoniamnist{enlarged}_{split}_[AUC]{auc:.3f}_[ACC]{accuracy:.3f}@{run}.csv"
