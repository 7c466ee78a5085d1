"""The npz file of MedMNIST: six arrays, believed only after a look at each."""

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_keras.arrays import SPLITS, Images, Labels
from pneumo_keras.data.films import FilmArray, LabelledFilms, count_classes
from pneumo_keras.data.pneumonia_mnist.catalog import SIZES
from pneumo_keras.errors import DataError
from pneumo_keras.files import replace_whole

KEYS = tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
NEXT_STEP = "Mend the file, or leave data.path unset to use the official one."
# What NumPy and zipfile raise on damaged archives; each was met while damaging one at random.
UNREADABLE = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
# ITU-R BT.601: what red, green and blue add to the brightness of a pixel.
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])


def load_archive(path: Path, split: str, *, size: int) -> FilmArray:
    """The films of one split, grey, with labels 0 and 1. The arrays of the others are not opened.

    Args:
        path: A file of MedMNIST's make.
        split: `train`, `val` or `test`.
        size: Height and width that its films must have, in pixels.

    Raises:
        DataError: It is no such file, or it breaks a rule that the training relies on.
    """
    films = _to_films(path, split, *_load_arrays(path, split))
    _check_size(path, films, size)
    return films


def _load_arrays(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise _refusal(path, "the file must be a whole npz archive", "no archive, or a part of one")
    try:
        # Given a path, NumPy leaves the file open when the archive is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_keys(path, archive.files)
            # A member that is no array comes as bytes.
            return np.asanyarray(archive[f"{split}_images"]), np.asanyarray(archive[f"{split}_labels"])
    except UNREADABLE as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise _refusal(path, "the file must be a whole npz archive of plain arrays", reason) from error


def _check_keys(path: Path, present: list[str]) -> None:
    missing = [key for key in KEYS if key not in present]
    if missing:
        rule = f"the file must hold the arrays {', '.join(KEYS)}"
        raise _refusal(path, rule, f"{', '.join(present) or 'none'}; missing {', '.join(missing)}")


def _to_films(path: Path, split: str, raw_images: np.ndarray, raw_labels: np.ndarray) -> FilmArray:
    images, labels = _to_grey(path, split, raw_images), _to_labels(path, split, raw_labels)
    if len(images) != len(labels):
        rule = f"split '{split}' must hold one label for each film"
        raise _refusal(path, rule, f"{len(images)} films, {len(labels)} labels")
    films = FilmArray(images, labels)
    _check_classes(path, split, films)
    return films


def _to_grey(path: Path, split: str, images: np.ndarray) -> Images:
    if images.dtype != np.uint8:
        raise _refusal(path, f"the films of split '{split}' must be uint8", images.dtype)
    colour = images.ndim == 4 and images.shape[-1] == 3
    if not (images.ndim == 3 or colour) or images.shape[1] != images.shape[2]:
        rule = f"the films of split '{split}' must be square, (n, h, h) grey or (n, h, h, 3) colour"
        raise _refusal(path, rule, images.shape)
    if not len(images):
        raise _refusal(path, f"split '{split}' must hold films", "none")
    return np.rint(images @ GREY_WEIGHTS).astype(np.uint8) if colour else images


def _to_labels(path: Path, split: str, labels: np.ndarray) -> Labels:
    if labels.dtype.kind not in "iu":
        raise _refusal(path, f"the labels of split '{split}' must be integers", labels.dtype)
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        raise _refusal(path, f"the labels of split '{split}' must be (n,) or (n, 1)", labels.shape)
    strange = sorted(set(np.unique(labels).tolist()) - {0, 1})
    if strange:
        rule = f"the labels of split '{split}' must be 0 (normal) or 1 (pneumonia)"
        raise _refusal(path, rule, ", ".join(map(str, strange)))
    return labels.reshape(-1).astype(np.int64)


def _check_classes(path: Path, split: str, films: LabelledFilms) -> None:
    normal, pneumonia = count_classes(films.labels)
    if not (normal and pneumonia):
        rule = f"split '{split}' must hold films of both classes"
        raise _refusal(path, rule, f"{normal} normal, {pneumonia} pneumonia")


def _check_size(path: Path, films: LabelledFilms, size: int) -> None:
    pixels = films.images.shape[1]
    if pixels == size:
        return
    takes = ", ".join(map(str, SIZES))
    mend = f"Set data.size to {pixels}." if pixels in SIZES else f"Resize the films to one of {takes} px."
    raise _refusal(path, f"the films must be {size} px, as data.size says", f"{pixels} px", mend)


def _refusal(path: Path, rule: str, received: Any, next_step: str = NEXT_STEP) -> DataError:
    return DataError(f"{path}: {rule}. Received: {received}. {next_step}")


def save_archive(path: Path, splits: Mapping[str, LabelledFilms]) -> None:
    """Writes films as an npz with the arrays of PneumoniaMNIST, whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    for split, films in splits.items():
        arrays[f"{split}_images"] = films.images
        arrays[f"{split}_labels"] = films.labels[:, None].astype(np.uint8)
    try:
        with replace_whole(path) as beside:
            np.savez_compressed(beside, **arrays)  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error
