"""The source `pneumonia_mnist`: a file located, verified, prepared once, read split by split."""

import contextlib
import functools
import logging
from pathlib import Path

from pneumo_keras.arrays import SPLIT_NAMES, SPLITS
from pneumo_keras.data import prepared
from pneumo_keras.data.hashes import load_hashes
from pneumo_keras.data.image_preparation import detect_preparation
from pneumo_keras.data.images import LabelledImages, Preparation
from pneumo_keras.data.pneumonia_mnist import patients
from pneumo_keras.data.pneumonia_mnist.archive import (
    check_archive,
    count_archived_classes,
    open_archive,
    read_size,
)
from pneumo_keras.data.pneumonia_mnist.card import describe_official, describe_own, to_unofficial_line
from pneumo_keras.data.pneumonia_mnist.catalog import Release, describe_edition, load_release
from pneumo_keras.data.pneumonia_mnist.npz_file import NpzFile, locate_npz, to_medmnist_folder
from pneumo_keras.data.resized import ResizedImages
from pneumo_keras.data.sources import CACHE_LIMIT, DataCard, DataOptions, DataSet, ImageNames
from pneumo_keras.errors import DataError

log = logging.getLogger("pneumo_keras")


def open_images(options: DataOptions, release: Release | None = None) -> DataSet:
    """PneumoniaMNIST, or a file of the user's own with arrays like its.

    Args:
        options: With `path`, that file is used; without it medmnist's copy, or the network. With a
            preparation, larger images are prepared so.
        release: The published file, if not the one that medmnist names.

    Raises:
        DataError: The file is missing or breaks a rule.
        DownloadError: There is no file, and none could be fetched.
    """
    release = release or load_release(options.size)
    if options.path is not None and options.path.is_file():
        check_archive(options.path)  # before all of it is read for its checksum
    npz = locate_npz(release, path=options.path, folder=to_medmnist_folder())

    def open_split(split: str) -> LabelledImages:
        if split not in SPLITS:
            raise DataError(f"A split must be one of {', '.join(SPLITS)}. Received: {split}.")
        wanted, size = options.preparation, options.size
        if wanted:  # larger images become like those of the training
            size = max(size, read_size(npz.path, split))
        images = load_split(npz, split, size=size, cache=options.cache, limit=options.cache_limit)
        return ResizedImages(images, wanted) if wanted and size > options.size else images

    @functools.cache
    def name_images(split: str | None) -> ImageNames:
        if split is None or options.size != patients.SIZE:
            return ImageNames()
        hashes = load_hashes(open_split(split), options.cache)
        return patients.name_by_pixels(hashes, split=SPLIT_NAMES[split].capitalize())

    def find_preparation() -> Preparation:
        return detect_preparation(open_split("train"))

    return DataSet(
        _describe(npz, release, options.size), open_split, find_preparation, name_images=name_images
    )


def load_split(
    npz: NpzFile, split: str, *, size: int, cache: Path, limit: int = CACHE_LIMIT
) -> prepared.PreparedImages:
    """A split of a file as prepared images; the other splits are not opened.

    Raises:
        DataError: See `prepared.load_prepared`.
    """
    return prepared.load_prepared(
        describe_edition(),
        npz.sha256,
        split,
        size=size,
        cache=cache,
        limit=limit,
        open_raw=lambda _: contextlib.nullcontext(open_archive(npz.path, split, size=size)),
    )


def is_at_hand(options: DataOptions) -> bool:
    """Whether nothing would be fetched, unless the file in medmnist's folder is a wrong one."""
    return options.path is not None or (to_medmnist_folder() / load_release(options.size).name).is_file()


def _describe(npz: NpzFile, release: Release, size: int) -> DataCard:
    if npz.is_official:
        return describe_official(npz, release, size=size)
    # Of the test images, nothing is looked at before they are asked for.
    counts = {split: count_archived_classes(npz.path, split) for split in ("train", "val")}
    log.warning("%s", to_unofficial_line(str(npz.path), npz, release, counts))
    return describe_own(npz, release, counts, size=size)
