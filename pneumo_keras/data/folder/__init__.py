"""The source `folder`: images of the user's own, in folders by class or named by a CSV."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pneumo_keras.arrays import SPLITS, Labels
from pneumo_keras.data import prepared
from pneumo_keras.data.folder.decoded import decode_split
from pneumo_keras.data.folder.image_file import ImageFile, to_labels
from pneumo_keras.data.folder.layout import scan_folder
from pneumo_keras.data.folder.table import scan_table
from pneumo_keras.data.images import LabelledImages, Preparation, count_classes
from pneumo_keras.data.preparation import Edition
from pneumo_keras.data.sources import UNKNOWN_LIMITS, DataCard, DataOptions, DataSet, ImageNames, Listing
from pneumo_keras.errors import DataError
from pneumo_keras.runtime.code_fingerprint import fingerprint_code

log = logging.getLogger("pneumo_keras")

EDITION = Edition(
    name="folder",
    version="2.0.0",
    release_notes={
        "2.0.0": "Bilinear instead of bicubic.",
        "1.0.0": "Images of the user's own, cut to a square and brought to one size.",
    },
    description="Chest images of the user's own. What they show is not known to this program.",
    homepage="",
    citation="",
    licence="",
)
DECODING = (
    "data.decoding",
    "data.dicom",
    "data.dicom_pixels",
    "data.folder.decoded",
    "data.image_preparation",
    "data.kinds",
    "data.pictures",
)
"""Modules that make pixels of files, of which another version may make others."""
WHOLE = "labelled"
"""What all images together are called beside the names of splits."""


def open_images(options: DataOptions) -> DataSet:
    """The images of a folder or of a table; no image is read before its split is asked for.

    Raises:
        DataError: There is neither at `options.path`, or it breaks a rule.
    """
    if options.path is None:
        raise DataError("data.path must name a folder of images, or a CSV. Received: nothing.")
    path = options.path.expanduser()
    with _explain_unreadable(path):
        layout = (scan_folder if path.is_dir() else scan_table)(
            path, options.positive, options.patient_pattern
        )
        card = _describe(path, options.size)

    def choose_images(split: str) -> list[ImageFile]:
        if split not in SPLITS:
            raise DataError(f"A split must be one of {', '.join(SPLITS)}. Received: {split}.")
        with _explain_unreadable(path):
            return layout.choose_images(split)

    def open_split(split: str) -> LabelledImages:
        return load_split(choose_images(split), split, options, place=f"{path}: split '{split}'")

    def list_split(split: str) -> Listing:
        files = choose_images(split)
        labels = _label(files, split, options, place=f"{path}: split '{split}'")
        return Listing(hash_listing(files, labels.tolist()), count_classes(labels))

    def list_whole() -> list[ImageFile]:
        with _explain_unreadable(path):
            return layout.list_images("")

    def open_whole() -> LabelledImages:
        return load_split(list_whole(), WHOLE, options, place=str(path))

    def name_images(split: str | None) -> ImageNames:
        files = list_whole() if split is None else choose_images(split)
        names, known = tuple(file.name for file in files), [file for file in files if file.patient]
        if not known:
            return ImageNames(names)
        return ImageNames(
            names, tuple(file.patient for file in files), frozenset(file.numbering for file in known)
        )

    log.info("The images are %s", card.title)
    return DataSet(
        card,
        open_split,
        lambda: _choose_preparation(options),
        None if layout.splits else open_whole,
        list_split,
        name_images,
    )


def is_at_hand(options: DataOptions) -> bool:
    """Always: they are the user's own."""
    return True


def load_split(
    files: Sequence[ImageFile], split: str, options: DataOptions, *, place: str
) -> prepared.PreparedImages:
    """Some images as one split, prepared on its first use.

    Raises:
        DataError: A class is missing, an image cannot be read, or the cache cannot be written.
    """
    labels, preparation = _label(files, split, options, place=place), _choose_preparation(options)
    made_from = f"{hash_listing(files, labels.tolist())} {preparation} {fingerprint_code(DECODING)}"
    return prepared.load_prepared(
        EDITION,
        hashlib.sha256(made_from.encode()).hexdigest(),
        split,
        size=options.size,
        cache=options.cache,
        limit=options.cache_limit,
        open_raw=partial(decode_split, files, labels, split, preparation=preparation, place=place),
    )


def _label(files: Sequence[ImageFile], split: str, options: DataOptions, *, place: str) -> Labels:
    """Labels of a split: what a training learns from needs both classes, what is evaluated does not."""
    return to_labels(files, positive=options.positive, place=place, may_lack=split not in ("train", "val"))


def _choose_preparation(options: DataOptions) -> Preparation:
    return options.preparation or Preparation(options.size)


def hash_listing(files: Sequence[ImageFile], labels: Sequence[int]) -> str:
    """SHA-256 of all that tells images from others without reading them: an image that changes has another.

    Where a file lies is part of it: copies with the same times may hold other images.
    """
    listed = [
        (os.fspath(file.path), *_measure(file.path), label) for file, label in zip(files, labels, strict=True)
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _measure(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds; of a file that is missing, neither."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # its decoder will say what is wrong; ValueError: no path at all
        return -1, -1
    return found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _explain_unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"data.path must name a folder of images, or a CSV, that can be read. Received: "
            f"{error.filename or path} ({error.strerror})."
        ) from error


def _describe(path: Path, size: int) -> DataCard:
    files = {} if path.is_dir() else {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    return DataCard(
        title=f"{path.name}, {size} px",
        description=f"The user's own images, {path.name}. What they show is not known to this program.",
        limits=UNKNOWN_LIMITS,
        notice="",
        licence="",
        citation="",
        synthetic=False,
        medmnist_name=None,
        files=files,
    )
