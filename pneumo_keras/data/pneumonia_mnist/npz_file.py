"""Where the npz file comes from: a file of the user's, medmnist's own folder, the network."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from pneumo_keras.data.download import Release, fetch_release
from pneumo_keras.errors import DataError
from pneumo_keras.storage.bounded_reading import ARCHIVE_BYTES, open_ordinary

log = logging.getLogger("pneumo_keras")

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class NpzFile:
    """The file in use.

    Attributes:
        path: Where it lies.
        md5: Its checksum in the form its makers publish.
        sha256: Its checksum, the address of everything made from it.
        is_official: Whether it is, byte for byte, the published file.
    """

    path: Path
    md5: str
    sha256: str
    is_official: bool


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
        DataError: `path` is no readable file.
        DownloadError: There is no copy, and none could be fetched.
    """
    if path is not None:
        return _load_own_file(path.expanduser(), release)
    copy = _find_copy(folder / release.name, release)
    return copy or _load_npz(_fetch(release, folder), release)


def _fetch(release: Release, folder: Path) -> Path:
    remedy = f"Put a copy into {folder} or name one with data.path; --config demo needs none of it."
    return fetch_release(release, folder, remedy=remedy)


def _load_npz(path: Path, release: Release) -> NpzFile:
    md5 = hashlib.md5(usedforsecurity=False)  # without the flag, machines in FIPS mode refuse it
    sha256 = hashlib.sha256()
    with open_ordinary(path, most=ARCHIVE_BYTES) as file:
        while chunk := file.read(CHUNK_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
    is_official = md5.hexdigest() == release.md5 and release.sha256 in (None, sha256.hexdigest())
    return NpzFile(path, md5.hexdigest(), sha256.hexdigest(), is_official)


def _load_own_file(path: Path, release: Release) -> NpzFile:
    try:
        return _load_npz(path, release)
    except OSError as error:
        mend = 'Set data.source="folder" for a folder of images' if path.is_dir() else "Correct it"
        raise DataError(
            f"data.path must name an npz file that can be read. Received: {path} "
            f"({error.strerror}). {mend}, or leave data.path unset to use the official file."
        ) from error


def _find_copy(copy: Path, release: Release) -> NpzFile | None:
    if not copy.is_file():
        return None
    npz = _load_npz(copy, release)
    if npz.is_official:
        return npz
    log.warning(
        "Passing over %s: its MD5 is %s, that of %s is %s. A download will replace it; to use it "
        "as it is, copy it elsewhere and name the copy with data.path.",
        copy,
        npz.md5,
        release.title,
        release.md5,
    )
    return None
