"""Files from the network: announced, checked, and in their place whole or not at all."""

import functools
import hashlib
import http.client
import io
import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pneumo_keras import __version__
from pneumo_keras.errors import DownloadError
from pneumo_keras.progress import show_progress

log = logging.getLogger("pneumo_keras")

CHUNK_BYTES = 1 << 16
SECONDS_OF_SILENCE = 30.0
# Without the flag, machines in FIPS mode refuse MD5.
new_md5 = functools.partial(hashlib.md5, usedforsecurity=False)


@dataclass(frozen=True)
class Release:
    """One file as its makers published it.

    Attributes:
        title: What it is, for log lines and errors.
        name: Its file name.
        url: Where it is fetched from.
        md5: The checksum its makers state.
        bytes: Its size; None where nobody stated it.
        sha256: A second checksum; None where nobody stated it.
    """

    title: str
    name: str
    url: str
    md5: str
    bytes: int | None = None
    sha256: str | None = None


class _TransferError(Exception):
    """What arrived is not what was published; the text says why."""


def fetch_release(release: Release, folder: Path, *, remedy: str) -> Path:
    """Puts a published file into `folder`, unless a verified copy lies there by then.

    Args:
        release: The file, its address, checksum and size.
        folder: Where it goes; made if missing.
        remedy: What to do without a network, as the last sentence of the error.

    Raises:
        DownloadError: It did not arrive whole and with the right checksum. Nothing is left behind.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{release.name}.lock"):
            return _fetch_once(release, folder / release.name)
    except (OSError, http.client.HTTPException, _TransferError) as error:
        raise DownloadError(
            f"Cannot fetch {_to_title(release, release.bytes)} from {release.url} into {folder}: "
            f"{_to_reason(error)}. {remedy}"
        ) from error


def to_md5(path: Path) -> str:
    """The MD5 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, new_md5).hexdigest()


def _fetch_once(release: Release, target: Path) -> Path:
    """Fetches while holding the lock: whoever waited for it finds the file there."""
    if target.is_file() and to_md5(target) == release.md5:
        return target
    partial = target.with_name(f".{target.name}.partial")
    try:
        _fetch_to(partial, release, target.parent)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _fetch_to(partial: Path, release: Release, folder: Path) -> None:
    request = urllib.request.Request(release.url, headers={"User-Agent": f"pneumo-keras/{__version__}"})
    with _open(request) as response, partial.open("wb") as file:
        promised = response.headers.get("Content-Length", "")
        size = release.bytes or (int(promised) if promised.isdigit() else None)
        log.info("Downloading %s from %s to %s", _to_title(release, size), release.url, folder)
        _copy_checked(response, file, release, size)
        file.flush()
        os.fsync(file.fileno())


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(request, timeout=SECONDS_OF_SILENCE)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            raise _TransferError(f"the server answered {error.code} {error.reason}") from error


def _copy_checked(
    source: io.BufferedIOBase, file: io.BufferedIOBase, release: Release, size: int | None
) -> None:
    md5, received = new_md5(), 0
    with show_progress(f"Downloading {release.name}", size or 0, "B", scale=True) as progress:
        while chunk := source.read(CHUNK_BYTES):
            file.write(chunk)
            md5.update(chunk)
            received += len(chunk)
            progress.advance(len(chunk))
    if size is not None and received != size:
        raise _TransferError(f"received {received:,} bytes instead of {size:,}")
    if md5.hexdigest() != release.md5:
        raise _TransferError(f"what arrived has MD5 {md5.hexdigest()}")


def _to_title(release: Release, size: int | None) -> str:
    """What is fetched, how large, with which checksum."""
    bytes_ = "size not stated" if size is None else f"{size:,} bytes"
    return f"{release.title} ({release.name}, {bytes_}, MD5 {release.md5})"


def _to_reason(error: Exception) -> str:
    """The cause of a failed transfer, without Python's wrapping."""
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
