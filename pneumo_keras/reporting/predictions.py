"""Predictions as lines (a table, CSV, JSON Lines), a CSV file that is resumed, and Parquet parts."""

import csv
import importlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from scipy.special import logit

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.data.decoding import is_transient
from pneumo_keras.errors import RunError
from pneumo_keras.runs.run import COLUMNS, NOT_SCORED, ScoredImage
from pneumo_keras.storage.files import claim_folder, explain_unwritable, replace_atomically
from pneumo_keras.storage.printable import to_cell, to_printable

BLOCK = 2**20  # bytes that are copied at once
SHOWN = 200  # characters of a line that is not what it should be
ROWS = 65_536  # of a Parquet part


@dataclass(frozen=True)
class Layout:
    """How predictions are written: the first lines, "" for none, and a line for an image.

    `{threshold}` in the first lines is a field for `str.format`.
    """

    header: str
    format: Callable[[ScoredImage], str]


def format_row(image: ScoredImage) -> str:
    """A row of the table."""
    words = (image.path, image.warning and f"({image.warning})")
    named = "  ".join(to_printable(word) for word in words if word)
    score = "-" if image.probability is None else f"{image.probability:.4f}"
    return f"{score:>11}  {image.prediction or '-':<10}  {named}"


def format_csv_line(image: ScoredImage) -> str:
    """A line of CSV; numbers in as many digits as read back the same."""
    cells = {**image.to_row(), "path": to_cell(image.path)}
    return _join([to_printable(str("" if value is None else value)) for value in cells.values()])


def format_json_line(image: ScoredImage) -> str:
    """A line of JSON; the path exactly as the system has it."""
    return json.dumps(image.to_row())


ORDERS: Mapping[str, Callable[[ScoredImage], float]] = {
    "probability": lambda image: -(image.probability or 0),
    "uncertainty": lambda image: abs(logit(image.probability or 0) - logit(image.threshold)),
}
"""Ways to sort predictions: highest probability first, or nearest to the threshold in log odds first."""


def sort_predictions(images: Iterable[ScoredImage], order: str) -> list[ScoredImage]:
    """Images by one of `ORDERS`; those without a score come last."""
    return sorted(images, key=lambda image: (image.probability is None, ORDERS[order](image)))


@dataclass(frozen=True)
class ResumedCsv:
    """What a CSV file of predictions has already.

    Attributes:
        images: Number of images.
        failed: Number of images without a score.
        last: Path, as it is named now, and score of the last one that has one.
        again: Images without a score that may get one now: the first bytes of their lines, and their paths.
    """

    images: int = 0
    failed: int = 0
    last: tuple[str, float] | None = None
    again: list[tuple[int, str]] = field(default_factory=list)


def resume_csv(file: Path, paths: Iterator[str], *, threshold: float) -> tuple[ResumedCsv, Iterator[str]]:
    """Removes the incomplete last line of a CSV file; returns what it has, and the paths that it lacks.

    All of it is read and compared with the paths and the threshold before anything is removed. An empty file
    is one that was cut off before its first line.

    Raises:
        RunError: It is another kind of file, or has other images or the scores of another run.
    """
    if not file.is_file():
        raise _to_refusal(file, "must be a file", "something else")
    header = f"{LAYOUTS['csv'].header}\n".encode()
    written, whole, rest = ResumedCsv(), 0, b""
    with file.open("rb+") as lines:
        first = lines.readline(len(header))  # a file of another kind may be one line of gigabytes
        if not header.startswith(first):
            raise _to_refusal(file, f"must open with the line '{LAYOUTS['csv'].header}'", _decode(first))
        if first == header:
            whole = len(header)
            for line in lines:
                if not line.endswith(b"\n"):
                    rest = line
                    break
                path = next(paths, None)
                written, reason = _add_line(written, file, _decode(line), path, threshold)
                if is_transient(reason):
                    written.again.append((whole, str(path)))
                whole += len(line)
        if rest:
            path = next(paths, None)
            _check_rest(written, file, rest, path)
            paths = itertools.chain([] if path is None else [path], paths)
        lines.truncate(whole)
    return written, paths


def replace_lines(file: Path, lines: Iterable[tuple[int, str]]) -> None:
    """Replaces lines of a text file atomically, each given by its first byte and its new text, in order."""
    real = Path(os.path.realpath(file))
    with replace_atomically(real) as partial, real.open("rb") as old, partial.open("wb") as new:
        for start, text in lines:
            _copy(old, new, start - old.tell())
            old.readline()
            new.write(f"{text}\n".encode())
        shutil.copyfileobj(old, new)


def _copy(old: BinaryIO, new: BinaryIO, count: int) -> None:
    while count and (part := old.read(min(count, BLOCK))):
        new.write(part)
        count -= len(part)


def _add_line(
    written: ResumedCsv, file: Path, text: str, path: str | None, threshold: float
) -> tuple[ResumedCsv, str]:
    """What the file has with this line, and why the image has no score; "" where it has one."""
    number, opening = written.images + 2, _open_line(path)
    if not opening or not text.startswith(opening):
        raise _to_others(file, number, path, text)
    row = next(csv.reader([text.removeprefix(opening)]), [])
    if len(row) != len(COLUMNS) - 1:
        raise _to_refusal(file, f"must have {len(COLUMNS)} columns in line {number}", text)
    cells = dict(zip(COLUMNS[1:], row, strict=True))
    try:
        last = (str(path), float(cells["probability"])) if cells["probability"] else None
    except ValueError:
        raise _to_refusal(file, f"must have a probability in line {number}", text) from None
    if last and cells["prediction"] != CLASS_NAMES[last[1] > threshold]:
        rule = f"must be of the same run and prevalence; threshold {threshold}, line {number}"
        raise _to_refusal(file, rule, text)
    reason = "" if last else cells["warning"].removeprefix(NOT_SCORED)
    failed = written.failed + (last is None)
    return ResumedCsv(written.images + 1, failed, last or written.last, written.again), reason


def _check_rest(written: ResumedCsv, file: Path, rest: bytes, path: str | None) -> None:
    """Checks that a last line without an end is the beginning of what is written of the next image."""
    opening = _open_line(path).encode()
    if not opening or not (rest.startswith(opening) or opening.startswith(rest)):
        raise _to_others(file, written.images + 2, path, _decode(rest))


def _open_line(path: str | None) -> str:
    """What the line of an image begins with; "" where there is none."""
    return "" if path is None else f"{_join([to_cell(path)])},"


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\n")


def _to_others(file: Path, number: int, path: str | None, text: str) -> RunError:
    named = "no more images" if path is None else _cut(to_printable(path))
    cells = next(csv.reader([_cut(text)]), [])
    rule = f"must have the same images in the same order; line {number}: {named}"
    return _to_refusal(file, rule, cells[0] if cells else "")


def _to_refusal(file: Path, rule: str, received: str) -> RunError:
    return RunError(f"To continue with --resume, {file} {rule}. Received: {_cut(to_printable(received))}")


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _join(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def write_parts(scores: Path, folder: Path, *, option: str) -> None:
    """Writes the rows of a whole CSV file of predictions to `part-000000.parquet` and so on, in their order.

    Raises:
        RunError: The folder, which `option` names, is taken or cannot be written.
    """
    parquet = importlib.import_module("pyarrow.parquet")
    with claim_folder(folder, option=option), explain_unwritable(folder, option=option):
        for number, table in enumerate(_read_tables(scores)):
            with replace_atomically(folder / f"part-{number:06}.parquet") as partial:
                parquet.write_table(table, partial)


def _read_tables(scores: Path) -> Iterator[Any]:
    """Tables of ROWS rows, except the last one."""
    pyarrow, csv = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.csv")
    types = {**dict.fromkeys(COLUMNS, pyarrow.string()), "probability": pyarrow.float64()}
    options = csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    parsing = csv.ParseOptions(newlines_in_values=False)
    with csv.open_csv(scores, convert_options=options, parse_options=parsing) as batches:
        rest = None
        for batch in batches:
            table = pyarrow.Table.from_batches([*(rest.to_batches() if rest else ()), batch])
            while table.num_rows >= ROWS:
                yield table.slice(0, ROWS)
                table = table.slice(ROWS)
            rest = table
        if rest:
            yield rest


LAYOUTS: Mapping[str, Layout] = {
    "table": Layout("threshold {threshold:.4f}\nprobability  prediction  image", format_row),
    "csv": Layout(",".join(COLUMNS), format_csv_line),
    "json": Layout("", format_json_line),
}
