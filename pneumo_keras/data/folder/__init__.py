"""The source `folder`: images of the user's own, in folders by class or named by a CSV."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pneumo_keras.arrays import SPLITS, Labels
from pneumo_keras.data.folder.decoded import DecodedImages, load_decoded
from pneumo_keras.data.folder.files import ImageFile, scan_folder, scan_table, to_labels
from pneumo_keras.data.images import LabelledImages, Preparation, count_classes
from pneumo_keras.data.sources import UNKNOWN_LIMITS, DataCard, DataOptions, DataSet, ImageNames, Listing
from pneumo_keras.errors import DataError
from pneumo_keras.runtime.code_fingerprint import fingerprint_code

log = logging.getLogger("pneumo_keras")

DECODING = (
    "data.decoding",
    "data.dicom",
    "data.folder.decoded",
    "data.image_preparation",
    "data.kinds",
    "data.pictures",
)
"""Modules that make pixels of files, of which another version may make others."""


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

    def choose_images(split: str | None) -> list[ImageFile]:
        if split not in (*SPLITS, None):
            raise DataError(f"A split must be one of {', '.join(SPLITS)}. Received: {split}.")
        with _explain_unreadable(path):
            return layout.list_images("") if split is None else layout.choose_images(split)

    def open_split(split: str | None) -> LabelledImages:
        return _load(choose_images(split), split, options, place=_name_place(path, split))

    def list_split(split: str) -> Listing:
        files = choose_images(split)
        labels = _label(files, split, options, place=_name_place(path, split))
        return Listing(_hash_listing(files, labels.tolist()), count_classes(labels))

    def name_images(split: str | None) -> ImageNames:
        files = choose_images(split)
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
        None if layout.splits else lambda: open_split(None),
        list_split,
        name_images,
    )


def is_at_hand(options: DataOptions) -> bool:
    """Always: they are the user's own."""
    return True


def _name_place(path: Path, split: str | None) -> str:
    return f"{path}: split '{split}'" if split else str(path)


def _load(
    files: Sequence[ImageFile], split: str | None, options: DataOptions, *, place: str
) -> DecodedImages:
    labels, preparation = _label(files, split, options, place=place), _choose_preparation(options)
    made_from = f"{_hash_listing(files, labels.tolist())} {preparation} {fingerprint_code(DECODING)}"
    address = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    return load_decoded(
        files,
        labels,
        f"folder-{options.size}-{address}-{split or 'all'}",
        preparation=preparation,
        cache=options.cache,
        limit=options.cache_limit,
        place=place,
    )


def _label(files: Sequence[ImageFile], split: str | None, options: DataOptions, *, place: str) -> Labels:
    """Labels of a split: what a training learns from needs both classes, what is evaluated does not."""
    return to_labels(files, positive=options.positive, place=place, may_lack=split not in ("train", "val"))


def _choose_preparation(options: DataOptions) -> Preparation:
    return options.preparation or Preparation(options.size)


def _hash_listing(files: Sequence[ImageFile], labels: Sequence[int]) -> str:
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
