"""Which images a folder or table contains, and the class, split and patient of each: stated, or drawn.

Folders are `{train,val,test}/{NORMAL,PNEUMONIA}`, or `{NORMAL,PNEUMONIA}` where no splits are stated; val may
be named valid, validation or dev. A table is a CSV with the columns `path` and `label`, optionally `split`,
`patient` and others, and a line for each image.
"""

import csv
import functools
import hashlib
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from pneumo_keras.arrays import SPLITS, Labels
from pneumo_keras.data.kinds import is_image_file
from pneumo_keras.data.listing import IgnoredFiles, is_hidden, walk_images
from pneumo_keras.data.sources import KERMANY, NOBODY, DataOptions
from pneumo_keras.errors import DataError
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

SPLIT_ALIASES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
"""Names of splits in folders and tables, in letters of any case."""

NORMAL = "normal"  # in any case: the class of images without pneumonia, where there is no other
COLUMNS = ("path", "label")
KNOWN_COLUMNS = (*COLUMNS, "split", "patient")
SHOWN = 5  # names of what is ignored

SEED = 0  # of the draw; not the settings', or images would move to other splits when a training is repeated
SHARE = 0.1  # of all images, expected of each drawn split except the first
HASH_BYTES = 8

CHEST_XRAY = re.compile(r"(person\d+)_(?:bacteria|virus)_\d|((?:NORMAL\d+-)?IM-\d+)-\d")
"""Kermany et al. name images `person12_virus_34.jpeg`, `IM-0012-0001.jpeg`, `NORMAL2-IM-0012-0001.jpeg`.

The test images are numbered from 1 again: person12 of the folder test is not person12 of train and val.
"""

UNKNOWN = ("", "nan", "na", "<na>", "none", "null", "n/a", "#n/a", "unknown", "-", "?")
"""What spreadsheets and programs write for an empty cell."""


@dataclass(frozen=True)
class ImageFile:
    """A file with an image, and what is stated of it.

    Attributes:
        path: Path of the file.
        name: The same, human-readable: relative to the folder or the table.
        label: Name of its class.
        split: Its split; "" where none is stated.
        patient: Its patient; "" where unknown.
        numbering: The series that the patient's number is from, see `ImageNames`.
        values: Those in `Layout.columns`; "" where missing.
    """

    path: Path
    name: str
    label: str
    split: str = ""
    patient: str = ""
    numbering: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The images of a folder or table.

    Attributes:
        path: Path of the folder or table.
        positive: Name of the class that is pneumonia.
        splits: Those that are stated, or none.
        list_images: The images of a stated split; of "" all images, where no split is stated.
        columns: Further columns of a table.
    """

    path: Path
    positive: str
    splits: tuple[str, ...]
    list_images: Callable[[str], list[ImageFile]]
    columns: tuple[str, ...] = ()

    def choose_images(self, split: str) -> list[ImageFile]:
        """The images of a split, drawn where it is not stated; other splits are not listed.

        Raises:
            DataError: There is no such split, or there are too few images to draw it from.
        """
        if split in self._drawn_splits:
            return self._drawn[split]
        if split not in self.splits:
            raise DataError(
                f"{self.path}: there must be a split '{split}'. Received: {', '.join(self.splits)}. "
                "Add it, or state no splits to have them drawn."
            )
        return self.list_images(split)

    @property
    def _drawn_splits(self) -> tuple[str, ...]:
        """All splits where none is stated; train and val where both must come from stated training images."""
        if not self.splits:
            return SPLITS
        return ("train", "val") if "train" in self.splits and "val" not in self.splits else ()

    @functools.cached_property
    def _drawn(self) -> dict[str, list[ImageFile]]:
        files = self.list_images("train" if self.splits else "")
        drawn = draw_splits(files, self._drawn_splits, positive=self.positive, source=str(self.path))
        log.info(
            "%s states no %s: %s images were drawn, the same every time, whatever the seed",
            self.path,
            "validation images" if self.splits else "splits",
            ", ".join(f"{len(images):,} {split}" for split, images in drawn.items()),
        )
        return drawn


def draw_splits(
    files: Sequence[ImageFile], splits: Sequence[str], *, positive: str, source: str
) -> dict[str, list[ImageFile]]:
    """Draws splits: about a tenth of the images for each except the first, which has the rest.

    The split of an image depends on a hash of its patient, or of its own name: images that are added later
    do not move it, and no patient is in two splits. So shares are not exact.

    Raises:
        DataError: A split was drawn without images of a class: there are too few images, or patients.
    """
    labels = to_labels(files, positive=positive, source=source)
    drawn: dict[str, list[ImageFile]] = {split: [] for split in splits}
    found: set[tuple[str, int]] = set()
    for file, label in zip(files, labels.tolist(), strict=True):
        split = _draw_split(f"patient {file.patient}" if file.patient else f"image {file.name}", splits)
        drawn[split].append(file)
        found.add((split, label))
    for split in splits:
        for label, name in enumerate(("the other class", "the positive class")):
            if (split, label) not in found:
                raise DataError(
                    f"{source}: about a tenth of the images, or patients, is drawn for each split, and each "
                    f"must have some of both classes. Received: none of {name} for '{split}', of "
                    f"{(labels == label).sum():,}. State the splits (folders train, val and test, or the "
                    "column split), or add images."
                )
    return drawn


def _draw_split(unit: str, splits: Sequence[str]) -> str:
    content = f"{SEED} {unit}".encode(errors="surrogateescape")
    digest = hashlib.blake2b(content, digest_size=HASH_BYTES).digest()
    tenth = int(int.from_bytes(digest) / 2 ** (8 * HASH_BYTES) / SHARE)
    return splits[tenth + 1] if tenth + 1 < len(splits) else splits[0]


def to_labels(files: Sequence[ImageFile], *, positive: str, source: str, needs_both: bool = True) -> Labels:
    """1 for images of the positive class, 0 for those of the other, whatever its name.

    Args:
        files: With the names of their classes.
        positive: Name of the class that is pneumonia.
        source: The folder or table of the files, for messages.
        needs_both: Whether both classes must be there; if not, one is enough that is positive or named
            normal.

    Raises:
        DataError: There are not two classes, or the positive one is not among them.
    """
    counts = Counter(file.label for file in files)
    found = ", ".join(f"{label} ({count:,})" for label, count in sorted(counts.items())) or "no images"
    if len(counts) == 1 and not needs_both:
        (label,) = counts
        if label != positive and label.casefold() != NORMAL:
            raise DataError(
                f"{source} has images of one class, which must be the one that data.positive names, "
                f"{positive}, or be named NORMAL. Received: {found}. Name it with --positive if it is "
                "pneumonia, or rename it to NORMAL."
            )
    elif len(counts) != 2:
        raise DataError(
            f"{source} must have images of two classes, in folders with their names or in the column label. "
            f"Received: {found}. Keep two, and name the one that is pneumonia with data.positive."
        )
    elif positive not in counts:
        raise DataError(
            f"{source} must have the class that data.positive names, {positive}. Received: {found}. "
            "Set data.positive, or --positive of eval, to the one that is pneumonia."
        )
    return np.array([file.label == positive for file in files], np.int64)


def scan_folder(path: Path, options: DataOptions) -> Layout:
    """The images of a folder; those of a split are not listed before they are needed.

    Raises:
        OSError: The folder cannot be read.
        DataError: Two folders are named like one split.
    """
    folders = _find_splits(path)
    splits = tuple(split for split in SPLITS if split in folders)
    if splits:
        _warn_of_ignored(path, [child for child in path.iterdir() if child not in folders.values()])

    @functools.cache
    def list_images(split: str) -> list[ImageFile]:
        files = _list_classes(folders.get(split, path), path)
        return name_patients(files, options.patient_pattern, source=describe_source(path, split))

    return Layout(path, options.positive, splits, list_images)


def describe_source(path: Path, split: str | None) -> str:
    """A folder or table, or a split of it, for messages."""
    return f"{path}: split '{split}'" if split else str(path)


def _find_splits(path: Path) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for child in sorted(path.iterdir()):
        if not (child.is_dir() and (split := _to_split(child.name))):
            continue
        if split in folders:
            raise DataError(
                f"{path}: a split must be one folder. Received: {folders[split].name} and {child.name} for "
                f"'{split}'. Rename one of them, or put their images together."
            )
        folders[split] = child
    return folders


def _to_split(name: str) -> str | None:
    return SPLIT_ALIASES.get(name.strip().casefold())


def _list_classes(folder: Path, root: Path) -> list[ImageFile]:
    """All images below the folders of the classes, except hidden ones."""
    inside = sorted(child for child in folder.iterdir() if not is_hidden(child.name))
    classes = [child for child in inside if child.is_dir()]
    _warn_of_ignored(folder, [child for child in inside if child not in classes])
    ignored = IgnoredFiles()
    files = [
        ImageFile(path, path.relative_to(root).as_posix(), label=one.name)
        for one in classes
        for path in map(Path, walk_images(str(one), ignored))
    ]
    if ignored.count:
        log.warning("%s", ignored.describe())
    return files


def _warn_of_ignored(folder: Path, others: Sequence[Path]) -> None:
    """Names the folders and images that are in no folder of a split or class."""
    names = sorted(
        f"{child.name}/" if child.is_dir() else child.name
        for child in others
        if not is_hidden(child.name) and (child.is_dir() or is_image_file(child))
    )
    if names:
        log.warning(
            "%s: ignored, since it is in no folder of a split or class: %s%s",
            folder,
            ", ".join(names[:SHOWN]),
            f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "",
        )


def scan_table(path: Path, options: DataOptions) -> Layout:
    """The images of a CSV, in the order of its lines. Paths are relative to its folder.

    Raises:
        OSError: It cannot be read.
        DataError: It is not a CSV, or one of its lines breaks a rule.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark in front
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            if not set(COLUMNS) <= set(columns):
                raise DataError(
                    f"{path}: the first line must name the columns, path and label among them. "
                    f"Received: {', '.join(columns) or 'nothing'}."
                )
            others = tuple(column for column in columns if column and column not in KNOWN_COLUMNS)
            files = list(_parse_rows(path, reader, others))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} must be a CSV in UTF-8, or a folder of images. Received: {error}. An npz file needs "
            'data.source="pneumonia_mnist".'
        ) from error
    _check_distinct(path, files)
    files = name_patients(files, options.patient_pattern, source=str(path))
    if "split" not in columns:
        return Layout(path, options.positive, (), lambda _: files, others)
    stated = {file.split for file in files}
    return Layout(
        path,
        options.positive,
        tuple(split for split in SPLITS if split in stated),
        lambda split: [file for file in files if file.split == split],
        others,
    )


def _parse_rows(path: Path, reader: "csv.DictReader[str]", others: Sequence[str]) -> Iterator[ImageFile]:
    for row in reader:
        name, label, split, patient = ((row.get(column) or "").strip() for column in KNOWN_COLUMNS)
        where = f"{path}, line {reader.line_num}"
        if not (name and label) or "\0" in name:
            raise DataError(f"{where}, must have a path and a label. Received: {name or 'neither'}.")
        if "split" in row and _to_split(split) is None:
            raise DataError(
                f"{where}, must name a split, one of {', '.join(SPLIT_ALIASES)}. "
                f"Received: {split or 'nothing'}. Without that column splits are drawn."
            )
        values = tuple(sys.intern(_to_value(row[column] or "")) for column in others)
        yield ImageFile(
            path.parent / name,
            name,
            label,
            split=_to_split(split) or "",
            patient=_to_patient(patient),
            values=values,
        )


def _check_distinct(path: Path, files: Sequence[ImageFile]) -> None:
    """Checks that no image has two lines, however its path is written and whatever links lead to it."""
    seen: dict[str, str] = {}
    for file in files:
        real = os.path.realpath(file.path)
        if real in seen:
            first = "" if seen[real] == file.name else f", the first time as {seen[real]}"
            raise DataError(f"{path}: every image must have one line. Received: {file.name} in two{first}.")
        seen[real] = file.name


def name_patients(files: Sequence[ImageFile], pattern: str, *, source: str) -> list[ImageFile]:
    """The files with patients by their names, unless a table states some.

    Args:
        files: The files of a split, or all.
        pattern: See `DataOptions.patient_pattern`.
        source: The folder or table of the files, for the log.
    """
    if any(file.patient for file in files) or pattern == NOBODY:
        return list(files)
    named = _match_known(files, source) if pattern == KERMANY else _match(files, pattern)
    known = [file for file in named if file.patient]
    if known or pattern != KERMANY:
        log.log(
            logging.INFO if known else logging.WARNING,
            "%s: %s of %s have the patient in their names (data.patient_pattern is %s): %s",
            source,
            f"{len(known):,}",
            to_amount(len(files), "file"),
            pattern,
            to_amount(len({file.patient for file in known}), "patient"),
        )
    return named


def _to_patient(text: str) -> str:
    """A patient in one spelling: 12, 12.0 and 00012 are one, as programs rewrite numbers."""
    text = _to_value(text)
    number = re.fullmatch(r"0*(\d+)(?:\.0*)?", text, re.ASCII)
    return number[1] if number else text


def _to_value(text: str) -> str:
    """The text of a cell; "" where it is missing."""
    text = text.strip()
    return "" if text.casefold() in UNKNOWN else text


def _match(files: Sequence[ImageFile], pattern: str) -> list[ImageFile]:
    rule = re.compile(pattern)
    group = "patient" if "patient" in rule.groupindex else 1
    found = [rule.search(PurePath(file.name).name) for file in files]
    return [
        replace(file, patient=_to_patient(match[group] or "") if match else "")
        for file, match in zip(files, found, strict=True)
    ]


def _match_known(files: Sequence[ImageFile], source: str) -> list[ImageFile]:
    """Patients by file names like those of Kermany et al., each in the numbering of its folder."""
    found = [(file, CHEST_XRAY.match(PurePath(file.name).name)) for file in files]
    names = Counter(PurePath(file.name).name for file, match in found if match)
    if repeated := [name for name, count in names.items() if count > 1]:
        log.warning(
            "%s: files are named like those of Kermany et al., but %s of those names are in several folders, "
            "first %s: no patients are taken from them. A CSV with the column patient can state the patients",
            source,
            f"{len(repeated):,}",
            repeated[0],
        )
        return list(files)
    return [_number(file, match[1] or match[2]) if match else file for file, match in found]


def _number(file: ImageFile, patient: str) -> ImageFile:
    """The file with its patient, numbered as in the nearest folder named like a split, or in its split."""
    splits = filter(None, map(_to_split, reversed(PurePath(file.name).parts[:-1])))
    split = next(splits, file.split)
    numbering = "train" if split == "val" else split
    return replace(file, patient=f"{numbering}-{patient}" if numbering else patient, numbering=numbering)
