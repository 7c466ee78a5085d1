"""Predictions as lines: a table for people, CSV and JSON Lines for programs, and a CSV file gone on with."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.prediction import ScoredFilm
from pneumo_keras.printable import to_cell, to_printable

FIELDS = ("path", "probability", "verdict", "threshold", "margin", "warning")


@dataclass(frozen=True)
class Layout:
    """How predictions are written.

    Attributes:
        header: The first line; "" for none.
        format: A line for a film.
    """

    header: str
    format: Callable[[ScoredFilm], str]


def format_row(film: ScoredFilm) -> str:
    """A row of the table."""
    words = (film.path, film.warning and f"({film.warning})")
    told = "  ".join(to_printable(word) for word in words if word)
    if film.probability is None or film.margin is None:
        return f"{'-':>11}  {'-':<9}  {film.threshold:>9.4f}  {'-':>7}  {told}"
    return (
        f"{film.probability:>11.4f}  {film.verdict:<9}  {film.threshold:>9.4f}  {film.margin:>+7.4f}  {told}"
    )


def format_csv_line(film: ScoredFilm) -> str:
    """A line of CSV; numbers in as many digits as read back the same."""
    cells = {**list_values(film), "path": to_cell(film.path)}
    return _join([to_printable(str("" if value is None else value)) for value in cells.values()])


def format_json_line(film: ScoredFilm) -> str:
    """A line of JSON; the path just as the system has it."""
    return json.dumps(list_values(film))


@dataclass(frozen=True)
class Written:
    """What a CSV file of predictions holds already.

    Attributes:
        films: How many.
        failed: How many of them without a score.
        last: The last one with a score: its path as it is named now, and the score.
    """

    films: int = 0
    failed: int = 0
    last: tuple[str, float] | None = None


def resume_csv(file: Path, paths: Iterator[str], *, threshold: float) -> Written:
    """Finds where a CSV file was cut off, cuts off the rest of its last line, and passes over what it has.

    Args:
        file: As `format_csv_line` wrote it.
        paths: Of the films to be scored; those that the file has are drawn from it.
        threshold: Of the run that goes on.

    Raises:
        RunError: It is another kind of file, or holds other films or the scores of another run.
    """
    if not file.is_file():
        raise _to_refusal(file, "must be a file", "something else")
    written, whole = Written(), 0
    with file.open("rb+") as lines:
        for number, line in enumerate(lines):
            if not line.endswith(b"\n"):
                break
            text = line.decode("utf-8", "replace").rstrip("\n")
            if number == 0:
                _check_header(file, text)
            else:
                written = _add_line(written, file, text, next(paths, None), threshold)
            whole += len(line)
        lines.truncate(whole)
    return written


def _check_header(file: Path, text: str) -> None:
    if text != LAYOUTS["csv"].header:
        raise _to_refusal(file, f"must open with the line '{LAYOUTS['csv'].header}'", text)


def _add_line(written: Written, file: Path, text: str, path: str | None, threshold: float) -> Written:
    number, row = written.films + 2, next(csv.reader([text]), [])
    if len(row) != len(FIELDS):
        raise _to_refusal(file, f"must have {len(FIELDS)} columns in line {number}", text)
    said = dict(zip(FIELDS, row, strict=True))
    if path is None or said["path"] != to_cell(path):
        named = "no more films" if path is None else to_printable(path)
        rule = f"must hold the same films in the same order; line {number}: {named}"
        raise _to_refusal(file, rule, said["path"])
    if said["threshold"] != str(threshold):
        rule = f"must be of the same run and prevalence; threshold {threshold}"
        raise _to_refusal(file, rule, said["threshold"])
    try:
        last = (path, float(said["probability"])) if said["probability"] else None
    except ValueError:
        raise _to_refusal(file, f"must hold a probability in line {number}", text) from None
    return Written(written.films + 1, written.failed + (last is None), last or written.last)


def _to_refusal(file: Path, rule: str, received: str) -> RunError:
    return RunError(f"To go on with --resume, {file} {rule}. Received: {to_printable(received)}")


def list_values(film: ScoredFilm) -> dict[str, str | float | None]:
    """What is said of a film, by column."""
    return {name: getattr(film, name) for name in FIELDS}


def _join(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


LAYOUTS: Mapping[str, Layout] = {
    "table": Layout("probability  verdict    threshold   margin  film", format_row),
    "csv": Layout(",".join(FIELDS), format_csv_line),
    "json": Layout("", format_json_line),
}
