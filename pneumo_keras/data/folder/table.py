"""What a CSV says of images: columns `path` and `label`, perhaps `split` and `patient`, and a line an image."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.folder.image_file import SPLIT_WORDS, ImageFile, to_split
from pneumo_keras.data.folder.layout import Layout
from pneumo_keras.data.folder.whose import name_patients, to_patient
from pneumo_keras.errors import DataError

REQUIRED = ("path", "label")


def scan_table(path: Path, positive: str, pattern: str) -> Layout:
    """The images of a CSV, in the order of its lines. Paths start from its folder; other columns are free.

    Args:
        path: Of the CSV.
        positive: Name of the class that is pneumonia.
        pattern: See `name_patients`: for a table without patients.

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
            f"{path} must be a CSV in UTF-8, or a folder of images. Received: {error}. An npz file needs "
            'data.source="pneumonia_mnist".'
        ) from error
    _check_names(path, files)
    files = name_patients(files, pattern, place=str(path))
    if "split" not in columns:
        return Layout(path, positive, (), lambda _: files)
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


def _parse_rows(path: Path, reader: "csv.DictReader[str]") -> Iterator[ImageFile]:
    for row in reader:
        cells = {name: (row.get(name) or "").strip() for name in (*REQUIRED, "split", "patient")}
        where = f"{path}, line {reader.line_num}"
        if not (cells["path"] and cells["label"]):
            raise DataError(f"{where}, must hold a path and a label. Received: {cells['path'] or 'neither'}.")
        split = to_split(cells["split"])
        if "split" in row and split is None:
            raise DataError(
                f"{where}, must name a split, one of {', '.join(SPLIT_WORDS)}. "
                f"Received: {cells['split'] or 'nothing'}. Without that column splits are drawn."
            )
        patient = to_patient(cells["patient"])
        yield ImageFile(path.parent / cells["path"], cells["path"], cells["label"], split or "", patient)


def _check_names(path: Path, files: list[ImageFile]) -> None:
    """Checks that no image stands in two lines, however its path is spelt and whatever links lead to it."""
    seen: dict[str, str] = {}
    for file in files:
        place = _resolve(file.path)
        if place in seen:
            first = "" if seen[place] == file.name else f", of which the first calls it {seen[place]}"
            raise DataError(
                f"{path}: every image must stand in one line. Received: {file.name} in two{first}."
            )
        seen[place] = file.name


def _resolve(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # its decoder will say what is wrong; ValueError: no path at all
        return os.fspath(path)
