"""Which images there are, of which class, split and patient: as folders or a table state it, or as is drawn.

Folders are `{train,val,test}/{NORMAL,PNEUMONIA}`, or `{NORMAL,PNEUMONIA}` where no splits are stated; val may
be called valid, validation or dev. A table is a CSV with the columns `path` and `label`, perhaps `split` and
`patient`, and a line an image.
"""

import csv
import functools
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from pneumo_keras.arrays import SPLITS, Labels
from pneumo_keras.data.kinds import PassedOver, is_image_file
from pneumo_keras.data.listing import is_hidden, walk_images
from pneumo_keras.data.sources import KERMANY, NOBODY
from pneumo_keras.errors import DataError
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

SPLIT_WORDS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
"""What splits are called by those who make folders, in letters of any case."""

NORMAL = "normal"  # in any case: the class of images without pneumonia, where there is no other
COLUMNS = ("path", "label")
SHOWN = 5  # names of what is ignored

SEED = 0  # of the draw; not the settings', or images would move to other splits when a training is repeated
SHARE = 0.1  # of all images, expected of each drawn split but the first
HASH_BYTES = 8

CHEST_XRAY = re.compile(r"(person\d+)_(?:bacteria|virus)_\d|((?:NORMAL\d+-)?IM-\d+)-\d")
"""Kermany et al. call images `person12_virus_34.jpeg`, `IM-0012-0001.jpeg`, `NORMAL2-IM-0012-0001.jpeg`.

The test images are numbered anew: person12 of the folder test is not person12 of train and val.
"""

UNKNOWN = ("", "nan", "na", "<na>", "none", "null", "n/a", "#n/a", "unknown", "-", "?")
"""What spreadsheets and programs write where nothing was written."""


@dataclass(frozen=True)
class ImageFile:
    """A file with an image, and what is stated of it.

    Attributes:
        path: Of the file.
        name: The same for people, relative to the folder or the table.
        label: Name of its class.
        split: Its split; "" where none is stated.
        patient: Whose image it is; "" where that is unknown.
        numbering: That the patient is of: patients of two numberings are not known to be others.
    """

    path: Path
    name: str
    label: str
    split: str = ""
    patient: str = ""
    numbering: str = ""


@dataclass(frozen=True)
class Layout:
    """The images of a folder or of a table.

    Attributes:
        path: Of the folder or the table.
        positive: Name of the class that is pneumonia.
        splits: Those that are stated, or none.
        list_images: The images of a stated split; of "" all images, where no split is stated.
    """

    path: Path
    positive: str
    splits: tuple[str, ...]
    list_images: Callable[[str], list[ImageFile]]

    def choose_images(self, split: str) -> list[ImageFile]:
        """The images of a split, drawn where it is not stated; others are not looked at.

        Raises:
            DataError: There is no such split, or there are too few images to draw it from.
        """
        if not self.splits:
            return self._drawn[split]
        if split != "test" and "val" not in self.splits and "train" in self.splits:
            return self._parted[split]
        if split not in self.splits:
            raise DataError(
                f"{self.path}: there must be a split '{split}'. Received: {', '.join(self.splits)}. "
                "Add it, or state no splits to have them drawn."
            )
        return self.list_images(split)

    @functools.cached_property
    def _drawn(self) -> dict[str, list[ImageFile]]:
        """All splits, where none is stated."""
        drawn = self._draw("", SPLITS)
        log.info(
            "%s states no splits: %s training, %s validation and %s test images were drawn, the same every "
            "time, whatever the seed",
            self.path,
            *(f"{len(drawn[split]):,}" for split in SPLITS),
        )
        return drawn

    @functools.cached_property
    def _parted(self) -> dict[str, list[ImageFile]]:
        """Training images, of which some become validation images."""
        drawn = self._draw("train", ("train", "val"))
        log.info(
            "%s states no validation images: %s were drawn from the training images, of which %s stay, the "
            "same every time, whatever the seed",
            self.path,
            f"{len(drawn['val']):,}",
            f"{len(drawn['train']):,}",
        )
        return drawn

    def _draw(self, stated: str, splits: Sequence[str]) -> dict[str, list[ImageFile]]:
        files = self.list_images(stated)
        return draw_splits(files, splits, positive=self.positive, place=str(self.path))


def draw_splits(
    files: Sequence[ImageFile], splits: Sequence[str], *, positive: str, place: str
) -> dict[str, list[ImageFile]]:
    """Draws splits: about a tenth of the images for each but the first, which has the rest.

    Where an image goes depends on a hash of its patient, or of its own name: images that are added later
    leave it where it is, and no patient is in two splits. So shares are not exact, and are the same for both
    classes.

    Raises:
        DataError: A split was drawn without images of a class: there are too few images, or patients.
    """
    labels = to_labels(files, positive=positive, place=place)
    drawn: dict[str, list[ImageFile]] = {split: [] for split in splits}
    found: dict[str, set[int]] = {split: set() for split in splits}
    for file, label in zip(files, labels.tolist(), strict=True):
        split = _draw_split(f"patient {file.patient}" if file.patient else f"image {file.name}", splits)
        drawn[split].append(file)
        found[split].add(label)
    for split in splits:
        for label, name in enumerate(("the other class", "the positive class")):
            if label not in found[split]:
                raise DataError(
                    f"{place}: about a tenth of the images, or patients, is drawn for each split, and each "
                    f"must have some of both classes. Received: none of {name} for '{split}', of "
                    f"{(labels == label).sum():,}. State the splits (folders train, val and test, or the "
                    "column split), or add images."
                )
    return drawn


def _draw_split(owner: str, splits: Sequence[str]) -> str:
    content = f"{SEED} {owner}".encode(errors="surrogateescape")
    digest = hashlib.blake2b(content, digest_size=HASH_BYTES).digest()
    tenth = int(int.from_bytes(digest) / 2 ** (8 * HASH_BYTES) / SHARE)
    return splits[tenth + 1] if tenth + 1 < len(splits) else splits[0]


def to_labels(files: Sequence[ImageFile], *, positive: str, place: str, may_lack: bool = False) -> Labels:
    """0 (the other class, whatever its name) or 1 (the positive class) for each image.

    Args:
        files: With the names of their classes.
        positive: Name of the class that is pneumonia.
        place: Where the images are, for the message.
        may_lack: Whether images of one class do, as they do for an evaluation: the positive one, or one
            that is called normal.

    Raises:
        DataError: There are not two classes, or the positive one is not among them.
    """
    counts = Counter(file.label for file in files)
    found = ", ".join(f"{label} ({count:,})" for label, count in sorted(counts.items())) or "no images"
    if may_lack and len(counts) == 1:
        (label,) = counts
        if label != positive and label.casefold() != NORMAL:
            raise DataError(
                f"{place} holds images of one class, which must be the one that data.positive names, "
                f"{positive}, or be called NORMAL. Received: {found}. Name it with --positive if it is "
                "pneumonia, or call it NORMAL."
            )
    elif len(counts) != 2:
        raise DataError(
            f"{place} must hold images of two classes, in folders with their names or in the column label. "
            f"Received: {found}. Keep two, and name the one that is pneumonia with data.positive."
        )
    elif positive not in counts:
        raise DataError(
            f"{place} must hold the class that data.positive names, {positive}. Received: {found}. "
            "Set data.positive, or --positive of eval, to the one that is pneumonia."
        )
    return np.array([file.label == positive for file in files], np.int64)


def scan_folder(path: Path, positive: str, pattern: str) -> Layout:
    """The images of a folder; those of a split are not listed before they are asked for.

    Args:
        path: Of the folder.
        positive: Name of the class that is pneumonia.
        pattern: See `DataOptions.patient_pattern`.

    Raises:
        OSError: The folder cannot be read.
        DataError: Two folders are called like one split.
    """
    folders = _find_splits(path)
    splits = tuple(split for split in SPLITS if split in folders)
    if splits:
        _warn_of_ignored(path, [child for child in path.iterdir() if child not in folders.values()])

    @functools.cache
    def list_images(split: str) -> list[ImageFile]:
        place = f"{path}: split '{split}'" if split else str(path)
        return name_patients(_list_classes(folders.get(split, path), path), pattern, place=place)

    return Layout(path, positive, splits, list_images)


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
    return SPLIT_WORDS.get(name.strip().casefold())


def _list_classes(folder: Path, root: Path) -> list[ImageFile]:
    """All images below the folders of the classes, but hidden ones."""
    inside = sorted(child for child in folder.iterdir() if not is_hidden(child.name))
    classes = [child for child in inside if child.is_dir()]
    _warn_of_ignored(folder, [child for child in inside if child not in classes])
    others = PassedOver()
    files = [
        ImageFile(path, path.relative_to(root).as_posix(), label=one.name)
        for one in classes
        for path in map(Path, walk_images(str(one), others))
    ]
    if others.count:
        log.warning("%s", others.describe())
    return files


def _warn_of_ignored(folder: Path, others: Sequence[Path]) -> None:
    """Names the folders and images that are in no folder of a split or class."""
    names = sorted(
        f"{child.name}/" if child.is_dir() else child.name
        for child in others
        if not is_hidden(child.name) and (child.is_dir() or is_image_file(child))
    )
    if names:
        more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
        log.warning(
            "%s: ignored, since it is in no folder of a split or class: %s%s",
            folder,
            ", ".join(names[:SHOWN]),
            more,
        )


def scan_table(path: Path, positive: str, pattern: str) -> Layout:
    """The images of a CSV, in the order of its lines. Paths start from its folder; other columns are free.

    Takes what `scan_folder` takes; the pattern counts where no line states a patient.

    Raises:
        OSError: It cannot be read.
        DataError: It is none, or one of its lines breaks a rule.
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
            files = list(_parse_rows(path, reader))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} must be a CSV in UTF-8, or a folder of images. Received: {error}. An npz file needs "
            'data.source="pneumonia_mnist".'
        ) from error
    _check_distinct(path, files)
    files = name_patients(files, pattern, place=str(path))
    if "split" not in columns:
        return Layout(path, positive, (), lambda _: files)
    stated = {file.split for file in files}
    splits = tuple(split for split in SPLITS if split in stated)
    return Layout(path, positive, splits, lambda split: [file for file in files if file.split == split])


def _parse_rows(path: Path, reader: "csv.DictReader[str]") -> Iterator[ImageFile]:
    for row in reader:
        cells = {name: (row.get(name) or "").strip() for name in (*COLUMNS, "split", "patient")}
        where = f"{path}, line {reader.line_num}"
        if not (cells["path"] and cells["label"]):
            raise DataError(f"{where}, must hold a path and a label. Received: {cells['path'] or 'neither'}.")
        split = _to_split(cells["split"])
        if "split" in row and split is None:
            raise DataError(
                f"{where}, must name a split, one of {', '.join(SPLIT_WORDS)}. "
                f"Received: {cells['split'] or 'nothing'}. Without that column splits are drawn."
            )
        patient = _to_patient(cells["patient"])
        yield ImageFile(path.parent / cells["path"], cells["path"], cells["label"], split or "", patient)


def _check_distinct(path: Path, files: Sequence[ImageFile]) -> None:
    """Checks that no image has two lines, however its path is spelt and whatever links lead to it."""
    seen: dict[str, str] = {}
    for file in files:
        place = _resolve(file.path)
        if place in seen:
            first = "" if seen[place] == file.name else f", of which the first calls it {seen[place]}"
            raise DataError(f"{path}: every image must have one line. Received: {file.name} in two{first}.")
        seen[place] = file.name


def _resolve(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # its decoder will say what is wrong; ValueError: no path at all
        return os.fspath(path)


def name_patients(files: Sequence[ImageFile], pattern: str, *, place: str) -> list[ImageFile]:
    """Files of which nobody says whose they are, with the patients that their names tell.

    Args:
        files: Where a table has stated some patients, names are not looked at.
        pattern: See `DataOptions.patient_pattern`.
        place: Where the files are, for the log.
    """
    if any(file.patient for file in files) or pattern == NOBODY:
        return list(files)
    named = _match_known(files, place) if pattern == KERMANY else _match(files, pattern)
    known = [file for file in named if file.patient]
    if known or pattern != KERMANY:
        log.log(
            logging.INFO if known else logging.WARNING,
            "%s: %s of %s tell the patient by their names, as %s: %s",
            place,
            f"{len(known):,}",
            to_amount(len(files), "file"),
            "Kermany et al. write them (person12_..., IM-0012-..., NORMAL2-IM-0012-...)"
            if pattern == KERMANY
            else "data.patient_pattern says",
            to_amount(len({file.patient for file in known}), "patient"),
        )
    return named


def _to_patient(text: str) -> str:
    """A patient in one spelling: 12, 12.0 and 00012 are one, as programs write numbers anew."""
    text = text.strip()
    number = re.fullmatch(r"0*(\d+)(?:\.0*)?", text, re.ASCII)
    return number[1] if number else "" if text.casefold() in UNKNOWN else text


def _match(files: Sequence[ImageFile], pattern: str) -> list[ImageFile]:
    rule = re.compile(pattern)
    group = "patient" if "patient" in rule.groupindex else 1
    found = [rule.search(PurePath(file.name).name) for file in files]
    return [
        replace(file, patient=_to_patient(match[group] or "") if match else "")
        for file, match in zip(files, found, strict=True)
    ]


def _match_known(files: Sequence[ImageFile], place: str) -> list[ImageFile]:
    """Patients by the names of `chest_xray`, each in the numbering of its folder."""
    found = [CHEST_XRAY.match(PurePath(file.name).name) for file in files]
    names = Counter(PurePath(file.name).name for file, match in zip(files, found, strict=True) if match)
    if repeated := [name for name, count in names.items() if count > 1]:
        log.warning(
            "%s: files are called as Kermany et al. call theirs, but %s of those names are in several "
            "folders, first %s: no patients are taken from them. A CSV with the column patient can say whose "
            "they are",
            place,
            f"{len(repeated):,}",
            repeated[0],
        )
        return list(files)
    return [
        file if match is None else _number(file, match[1] or match[2])
        for file, match in zip(files, found, strict=True)
    ]


def _number(file: ImageFile, patient: str) -> ImageFile:
    """The file with its patient, numbered as in the nearest folder called like a split, or in its split."""
    splits = filter(None, map(_to_split, reversed(PurePath(file.name).parts[:-1])))
    split = next(splits, file.split)
    numbering = "train" if split == "val" else split
    return replace(file, patient=f"{numbering}-{patient}" if numbering else patient, numbering=numbering)
