"""Whose image a file holds: as a table says, or as the name of the file does."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from pneumo_keras.data.folder.image_file import ImageFile, to_split
from pneumo_keras.data.sources import KERMANY, NOBODY
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

CHEST_XRAY = re.compile(r"(person\d+)_(?:bacteria|virus)_\d|((?:NORMAL\d+-)?IM-\d+)-\d")
"""Kermany et al. call images `person12_virus_34.jpeg`, `IM-0012-0001.jpeg`, `NORMAL2-IM-0012-0001.jpeg`.

The test images are numbered anew: person12 of the folder test is not person12 of train and val.
"""

UNKNOWN = ("", "nan", "na", "<na>", "none", "null", "n/a", "#n/a", "unknown", "-", "?")
"""What spreadsheets and programs write where nothing was written."""


def to_patient(text: str) -> str:
    """A patient in one spelling: 12, 12.0 and 00012 are one, as programs write numbers anew."""
    text = text.strip()
    number = re.fullmatch(r"0*(\d+)(?:\.0*)?", text, re.ASCII)
    return number[1] if number else "" if text.casefold() in UNKNOWN else text


def name_patients(files: Sequence[ImageFile], pattern: str, *, place: str) -> list[ImageFile]:
    """Files of which nobody says whose they are, with the patients that their names tell.

    Args:
        files: With patients where a table has stated some: then names are not looked at.
        pattern: See `DataOptions.patient_pattern`.
        place: Where the files are, for the log.
    """
    if any(file.patient for file in files) or pattern == NOBODY:
        return list(files)
    told = _match_known(files, place) if pattern == KERMANY else _match(files, pattern)
    known = [file for file in told if file.patient]
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
    return told


def _match(files: Sequence[ImageFile], pattern: str) -> list[ImageFile]:
    rule = re.compile(pattern)
    group = "patient" if "patient" in rule.groupindex else 1
    found = (rule.search(PurePath(file.name).name) for file in files)
    return [
        replace(file, patient=to_patient(match[group] or "") if match else "")
        for file, match in zip(files, found, strict=True)
    ]


def _match_known(files: Sequence[ImageFile], place: str) -> list[ImageFile]:
    """Patients by the names of `chest_xray`, each in the numbering of its folder."""
    found = [CHEST_XRAY.match(PurePath(file.name).name) for file in files]
    names = Counter(PurePath(file.name).name for file, match in zip(files, found, strict=True) if match)
    if repeated := [name for name, count in names.items() if count > 1]:
        log.warning(
            "%s: files are called as Kermany et al. call theirs, but %s of those names stand in several "
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
    splits = filter(None, map(to_split, reversed(PurePath(file.name).parts[:-1])))
    split = next(splits, file.split)
    numbering = "train" if split == "val" else split
    return replace(file, patient=f"{numbering}-{patient}" if numbering else patient, numbering=numbering)
