"""What a CSV says of films: columns `path` and `label`, perhaps `split` and `patient`, and a line a film."""

import csv
import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.folder.film_file import FilmFile
from pneumo_keras.data.folder.layout import Layout
from pneumo_keras.errors import DataError

log = logging.getLogger("pneumo_keras")

REQUIRED = ("path", "label")


def scan_table(path: Path, positive: str) -> Layout:
    """The films of a CSV, in the order of its lines. Paths start from its folder; other columns are free.

    Raises:
        OSError: It cannot be read.
        DataError: It is none, or one of its lines breaks a rule.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark in front
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            _check_columns(path, columns)
            files = list(_parse_rows(path, reader))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} must be a CSV in UTF-8, or a folder of films. Received: {error}. An npz file needs "
            'data.source="pneumonia_mnist".'
        ) from error
    _check_names(path, files)
    if "split" not in columns:
        return Layout(path, positive, (), lambda _: files)
    _warn_of_shared_patients(path, files)
    stated = {file.split for file in files}
    splits = tuple(split for split in SPLITS if split in stated)
    return Layout(path, positive, splits, lambda split: [file for file in files if file.split == split])


def _check_columns(path: Path, columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise DataError(
            f"{path}: the first line must name the columns, path and label among them. "
            f"Received: {', '.join(columns) or 'nothing'}."
        )


def _parse_rows(path: Path, reader: "csv.DictReader[str]") -> Iterator[FilmFile]:
    for row in reader:
        cells = {name: (row.get(name) or "").strip() for name in (*REQUIRED, "split", "patient")}
        where = f"{path}, line {reader.line_num}"
        if not (cells["path"] and cells["label"]):
            raise DataError(f"{where}, must hold a path and a label. Received: {cells['path'] or 'neither'}.")
        if "split" in row and cells["split"] not in SPLITS:
            raise DataError(
                f"{where}, must name a split, one of {', '.join(SPLITS)}. "
                f"Received: {cells['split'] or 'nothing'}. Without that column splits are drawn."
            )
        yield FilmFile(
            path.parent / cells["path"], cells["path"], cells["label"], cells["split"], cells["patient"]
        )


def _check_names(path: Path, files: list[FilmFile]) -> None:
    """Checks that no film stands in two lines, however its path is spelt and whatever links lead to it."""
    seen: dict[str, str] = {}
    for file in files:
        place = _resolve(file.path)
        if place in seen:
            first = "" if seen[place] == file.name else f", of which the first calls it {seen[place]}"
            raise DataError(
                f"{path}: every film must stand in one line. Received: {file.name} in two{first}."
            )
        seen[place] = file.name


def _resolve(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # its decoder will say what is wrong; ValueError: no path at all
        return os.fspath(path)


def _warn_of_shared_patients(path: Path, files: list[FilmFile]) -> None:
    """Says so where the splits that are stated share patients: figures are flattered by that."""
    splits_of: defaultdict[str, set[str]] = defaultdict(set)
    for file in files:
        splits_of[file.patient].add(file.split)
    shared = [patient for patient, splits in splits_of.items() if patient and len(splits) > 1]
    if shared:
        log.warning(
            "%s: %s of %s patients stand in two splits or more, first %s: figures are flattered by that",
            path,
            f"{len(shared):,}",
            f"{len(splits_of.keys() - {''}):,}",
            shared[0],
        )
