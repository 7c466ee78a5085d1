"""The npz file of MedMNIST: six arrays, each checked before it is read, and read in parts."""

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pneumo_keras.arrays import SPLITS, Images, Labels
from pneumo_keras.data.images import LabelledImages, count_classes, iterate_images
from pneumo_keras.data.pneumonia_mnist.catalog import SIZES
from pneumo_keras.errors import DataError
from pneumo_keras.storage.bounded_reading import Header, open_member, open_zip
from pneumo_keras.storage.files import replace_atomically
from pneumo_keras.storage.printable import to_amount

KEYS = tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
CHUNK_BYTES = 1 << 22  # of images that are read together
# ITU-R BT.601: what red, green and blue add to the brightness of a pixel.
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class NpzFile:
    """The file in use: its MD5, as its authors publish it, and its SHA-256, for the address of its images."""

    path: Path
    md5: str
    sha256: str


@dataclass(frozen=True)
class ArchivedImages:
    """One split of the file. Its labels and the shape of its images were checked, no image is read yet."""

    path: Path
    split: str
    labels: Labels
    header: Header

    @property
    def size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.header.shape[1]

    def iterate(self) -> Iterator[Images]:
        """All images, grey, in their order, a few megabytes at a time.

        Raises:
            DataError: The array is damaged.
        """
        with _open_archive(self.path) as archive, open_member(archive, f"{self.split}_images") as (file, _):
            for part in _iterate_rows(file, self.header):
                yield np.rint(part @ GREY_WEIGHTS).astype(np.uint8) if part.ndim == 4 else part


def open_archive(path: Path, split: str, *, size: int | None = None) -> ArchivedImages:
    """The images of one split. The arrays of the others are not opened.

    Args:
        path: A file like MedMNIST's.
        split: `train`, `val` or `test`.
        size: Height and width that the images must have, in pixels; those of train and val must be of both
            classes then. Without it, any images are accepted.

    Raises:
        DataError: It is not such a file, or it breaks a rule.
    """
    with _open_archive(path) as archive:
        header = _read_header(path, archive, split)
        labels = _load_labels(path, archive, split, n=header.shape[0])
    images = ArchivedImages(path, split, labels, header)
    if size:
        _check_use(images, size)
    return images


def _check_use(images: ArchivedImages, size: int) -> None:
    if images.size != size:
        next_step = f"Resize the images to one of {', '.join(map(str, SIZES))} px."
        if images.size in SIZES:
            next_step = f"Set data.size to {images.size}."
        rule = f"the images must be {size} px, as set in data.size"
        raise _to_error(images.path, rule, f"{images.size} px", next_step)
    normal, pneumonia = count_classes(images.labels)
    if images.split in ("train", "val") and not (normal and pneumonia):  # a training learns from both
        rule = f"split '{images.split}' must have images of both classes"
        raise _to_error(images.path, rule, f"{normal} normal, {pneumonia} pneumonia")


def save_archive(path: Path, splits: Mapping[str, LabelledImages]) -> None:
    """Writes images as an npz with the arrays of PneumoniaMNIST, atomically.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        with (
            replace_atomically(path) as unfinished,
            zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for split, images in splits.items():
                labels = images.labels[:, None].astype(np.uint8)
                _save_array(archive, f"{split}_images", (len(images), *images.shape), iterate_images(images))
                _save_array(archive, f"{split}_labels", labels.shape, iter([labels]))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def _save_array(
    archive: zipfile.ZipFile, key: str, shape: tuple[int, ...], parts: Iterator[UInt8[np.ndarray, "..."]]
) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part).data)


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens the file, which must contain all arrays; errors while it is read become one line."""
    try:
        with open_zip(path) as archive:
            present = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            missing = [key for key in KEYS if key not in present]
            if missing:
                received = f"{', '.join(present) or 'none'}; missing {', '.join(missing)}"
                raise _to_error(path, f"the file must contain the arrays {', '.join(KEYS)}", received)
            yield archive
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
        raise _to_error(path, "the file must be an intact npz archive of plain arrays", reason) from error


def _iterate_rows(file: io.BufferedIOBase, header: Header) -> Iterator[UInt8[np.ndarray, "..."]]:
    """Bytes along the first axis, in parts."""
    n, *rest = header.shape
    at_once = max(1, CHUNK_BYTES // math.prod(rest))
    if header.is_fortran:  # its rows are scattered over the file: all are read
        everything = np.frombuffer(file.read(), np.uint8).reshape(header.shape, order="F")
        yield from np.array_split(everything, -(-n // at_once))
        return
    for start in range(0, n, at_once):
        shape = (min(at_once, n - start), *rest)
        yield np.frombuffer(file.read(math.prod(shape)), np.uint8).reshape(shape)


def _read_header(path: Path, archive: zipfile.ZipFile, split: str) -> Header:
    """The header of the images of a split, checked."""
    with open_member(archive, f"{split}_images") as (_, header):
        shape = header.shape
    if header.dtype != np.uint8:
        raise _to_error(path, f"the images of split '{split}' must be uint8", header.dtype)
    if not (len(shape) == 3 or (len(shape) == 4 and shape[-1] == 3)) or shape[1] != shape[2]:
        rule = f"the images of split '{split}' must be square, (n, h, h) grey or (n, h, h, 3) colour"
        raise _to_error(path, rule, shape)
    if not math.prod(shape):
        raise _to_error(path, f"split '{split}' must have images", "none")
    return header


def _load_labels(path: Path, archive: zipfile.ZipFile, split: str, n: int) -> Labels:
    """The labels of a split, one for each of `n` images."""
    with open_member(archive, f"{split}_labels") as (file, header):
        shape = header.shape
        if header.dtype.kind not in "iu":
            raise _to_error(path, f"the labels of split '{split}' must be integers", header.dtype)
        if len(shape) != 1 and shape[1:] != (1,):
            raise _to_error(path, f"the labels of split '{split}' must be (n,) or (n, 1)", shape)
        if n != shape[0]:
            rule = f"split '{split}' must have one label for each image"
            raise _to_error(path, rule, f"{to_amount(n, 'image')}, {to_amount(shape[0], 'label')}")
        labels = np.frombuffer(file.read(), header.dtype)
    others = sorted(set(np.unique(labels).tolist()) - {0, 1})
    if others:
        rule = f"the labels of split '{split}' must be 0 (normal) or 1 (pneumonia)"
        raise _to_error(path, rule, ", ".join(map(str, others)))
    return labels.astype(np.int64)


def _to_error(path: Path, rule: str, received: Any, next_step: str = "") -> DataError:
    next_step = next_step or "Correct the file, or leave data.path unset to use the official one."
    return DataError(f"{path}: {rule}. Received: {received}. {next_step}")
