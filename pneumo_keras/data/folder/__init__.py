"""The source `folder`: the user's own images, in folders by class or listed in a CSV."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pneumo_keras.arrays import Labels
from pneumo_keras.data.folder.decoded import load_decoded
from pneumo_keras.data.folder.files import ImageFile, describe_source, scan_folder, scan_table, to_labels
from pneumo_keras.data.images import LabelledImages, Preparation
from pneumo_keras.data.sources import DataOptions, DataSet, ImageNames, describe_own
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
    """The images of a folder or table; no image is read before its split is opened.

    Raises:
        DataError: There is neither at `options.path`, or it breaks a rule.
    """
    if options.path is None:
        raise DataError("data.path must name a folder of images, or a CSV. Received: nothing.")
    path = options.path.expanduser()
    preparation = options.preparation or Preparation(options.size)
    with _explain_unreadable(path):
        layout = (scan_folder if path.is_dir() else scan_table)(path, options)
        checksums = {} if path.is_dir() else {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    card = describe_own(path.name, size=options.size, files=checksums)

    def choose_images(split: str | None) -> list[ImageFile]:
        with _explain_unreadable(path):
            return layout.list_images("") if split is None else layout.choose_images(split)

    def label(files: Sequence[ImageFile], split: str | None) -> Labels:
        source, learnt = describe_source(path, split), split in ("train", "val")
        return to_labels(files, positive=options.positive, source=source, needs_both=learnt)

    def open_split(split: str | None) -> LabelledImages:
        files = choose_images(split)
        labels = label(files, split)
        made_from = f"{_hash_listing(files, labels)} {preparation} {fingerprint_code(DECODING)}"
        address = hashlib.sha256(made_from.encode()).hexdigest()[:16]
        name = f"folder-{options.size}-{address}-{split or 'all'}"
        return load_decoded(files, labels, name, preparation, options, source=describe_source(path, split))

    def hash_listing(split: str) -> str:
        files = choose_images(split)
        return _hash_listing(files, label(files, split))

    def name_images(split: str | None) -> ImageNames:
        files = choose_images(split)
        names, known = tuple(file.name for file in files), [file for file in files if file.patient]
        columns = {
            column: tuple(file.values[number] for file in files)
            for number, column in enumerate(layout.columns)
        }
        if not known:
            return ImageNames(names, columns=columns)
        patients, numberings = (file.patient for file in files), (file.numbering for file in known)
        return ImageNames(names, tuple(patients), frozenset(numberings), columns)

    log.info("The images are %s", card.title)
    return DataSet(
        card,
        open_split,
        lambda: preparation,
        None if layout.splits else lambda: open_split(None),
        hash_listing,
        name_images,
    )


def _hash_listing(files: Sequence[ImageFile], labels: Labels) -> str:
    """SHA-256 of all that distinguishes images without reading them: an image that changes has another.

    The path of a file is part of it: copies with the same times may be of other images.
    """
    listed = [
        (os.fspath(file.path), *_measure(file.path), label)
        for file, label in zip(files, labels.tolist(), strict=True)
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _measure(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; -1 for a missing file, which its decoder reports."""
    try:
        found = path.stat()
    except OSError:
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
