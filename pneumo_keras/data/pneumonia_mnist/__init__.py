"""The source `pneumonia_mnist`: an npz file located, verified, prepared once, read split by split."""

import functools
import hashlib
import logging
from pathlib import Path

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.data.download import Release, fetch_release
from pneumo_keras.data.image_preparation import ResizedImages, detect_preparation
from pneumo_keras.data.images import LabelledImages, count_classes
from pneumo_keras.data.overlap import load_hashes
from pneumo_keras.data.pneumonia_mnist import catalog
from pneumo_keras.data.pneumonia_mnist.archive import NpzFile, open_archive
from pneumo_keras.data.pneumonia_mnist.prepared import load_prepared
from pneumo_keras.data.sources import DataCard, DataOptions, DataSet, ImageNames, describe_own
from pneumo_keras.errors import DataError
from pneumo_keras.storage.bounded_reading import ARCHIVE_BYTES, open_ordinary

log = logging.getLogger("pneumo_keras")


def open_images(options: DataOptions, release: Release | None = None) -> DataSet:
    """PneumoniaMNIST, or a file of the user with arrays like its.

    Args:
        options: With `path`, that file is used; without it medmnist's copy, or the network. With a
            preparation, larger images are prepared in this way.
        release: The published file, if not the one that medmnist names.

    Raises:
        DataError: The file is missing or breaks a rule.
        DownloadError: There is no file, and none could be fetched.
    """
    release = release or catalog.load_release(options.size)
    npz = locate_npz(release, path=options.path, folder=to_medmnist_folder())

    def open_split(split: str) -> LabelledImages:
        wanted, size = options.preparation, options.size
        if wanted:  # larger images become like those of the training
            size = max(size, open_archive(npz.path, split).size)
        images = load_prepared(npz, split, size=size, cache=options.cache, limit=options.cache_limit)
        return ResizedImages(images, wanted) if wanted and size > options.size else images

    @functools.cache
    def name_images(split: str | None) -> ImageNames:
        if split is None or options.size != catalog.MATCHED_SIZE:
            return ImageNames()
        hashes = load_hashes(open_split(split), options.cache)
        return catalog.find_patients(hashes, split=SPLIT_NAMES[split].capitalize())

    return DataSet(
        _describe(npz, release, options.size),
        open_split,
        lambda: detect_preparation(open_split("train")),
        name_images=name_images,
    )


def needs_download(options: DataOptions) -> bool:
    """Whether there is neither a file of the user nor one in medmnist's folder."""
    copy = to_medmnist_folder() / catalog.load_release(options.size).name
    return options.path is None and not copy.is_file()


def to_medmnist_folder() -> Path:
    """Where medmnist keeps its files."""
    return Path.home() / ".medmnist"


def locate_npz(release: Release, *, path: Path | None, folder: Path) -> NpzFile:
    """The user's file, else a verified copy in `folder`, else a download into `folder`.

    Args:
        release: The official file.
        path: The setting `data.path`.
        folder: The folder of medmnist.

    Raises:
        DataError: `path` is not a readable file.
        DownloadError: There is no copy, and none could be fetched.
    """
    if path is not None:
        return _load_own_file(path.expanduser())
    copy = folder / release.name
    if copy.is_file():
        npz = _load_npz(copy)
        if npz.md5 == release.md5:
            return npz
        log.warning(
            "Ignoring %s: its MD5 is %s, that of %s is %s. A download will replace it; to use it "
            "as it is, copy it elsewhere and name the copy with data.path.",
            copy,
            npz.md5,
            release.title,
            release.md5,
        )
    remedy = f"Put a copy into {folder} or name one with data.path; --config demo needs none of it."
    return _load_npz(fetch_release(release, folder, remedy=remedy))


def _load_own_file(path: Path) -> NpzFile:
    try:
        return _load_npz(path)
    except OSError as error:
        repair = 'Set data.source="folder" for a folder of images' if path.is_dir() else "Correct it"
        raise DataError(
            f"data.path must name an npz file that can be read. Received: {path} "
            f"({error.strerror}). {repair}, or leave data.path unset to use the official file."
        ) from error


def _load_npz(path: Path) -> NpzFile:
    with open_ordinary(path, most=ARCHIVE_BYTES) as file:
        # Without the flag, machines in FIPS mode refuse MD5.
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        file.seek(0)
        return NpzFile(path, md5, hashlib.file_digest(file, "sha256").hexdigest())


def _describe(npz: NpzFile, release: Release, size: int) -> DataCard:
    files = {npz.path.name: npz.sha256}
    if npz.md5 == release.md5:
        return catalog.describe_official(release, files, size=size)
    # Nothing of the test images is read before they are asked for.
    counts = {split: count_classes(open_archive(npz.path, split).labels) for split in ("train", "val")}
    notice = catalog.describe_difference(npz.path.name, npz.md5, release, counts)
    log.warning("%s", notice)
    return describe_own(npz.path.name, size=size, files=files, notice=notice)
