"""Files from the network: announced, checked, and in their place whole or not at all."""

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pneumo_keras import __version__
from pneumo_keras.errors import DownloadError
from pneumo_keras.progress import show_progress

log = logging.getLogger("pneumo_keras")

CHUNK_BYTES = 1 << 16
SECONDS_OF_SILENCE = 30.0


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


def fetch_release(release: Release, folder: Path, *, remedy: str) -> Path:
    """Puts a published file into `folder`, unless a verified copy lies there by then.

    Args:
        release: The file, its address, checksum and size.
        folder: Where it goes; made if missing.
        remedy: What to do without a network, as the last sentence of the error.

    Raises:
        DownloadError: It did not arrive whole and with the right checksum. Nothing is left behind.
    """
    import pooch  # takes long enough to be noticed by who needs no download

    target, checksum = folder / release.name, f"md5:{release.md5}"
    download: Any = functools.partial(_download, release, folder)  # pooch's types misname the arguments
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        if target.is_file() and pooch.file_hash(target, "md5") == release.md5:
            return target  # a folder that is only readable will do
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{release.name}.lock"):
            pooch.retrieve(release.url, checksum, release.name, folder, downloader=download)
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"Cannot fetch {_to_title(release, release.bytes)} from {release.url} into {folder}: "
            f"{_to_reason(error)}. {remedy}"
        ) from error
    return target


def _download(release: Release, folder: Path, url: str, beside: str, pooch: object) -> None:
    """Writes `beside`, as pooch asks for: like its own downloader, but it tells the size at the start."""
    import requests

    headers = {"User-Agent": f"pneumo-keras/{__version__}", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=SECONDS_OF_SILENCE) as response:
        if not response.ok:
            raise OSError(f"the server answered {response.status_code} {response.reason}")
        size = release.bytes or int(response.headers.get("Content-Length", 0))
        log.info("Downloading %s from %s to %s", _to_title(release, size), url, folder)
        Path(beside).unlink()  # pooch made it for its owner's eyes alone
        with (
            Path(beside).open("xb") as file,
            show_progress(f"Downloading {release.name}", size, "B", scale=True) as progress,
        ):
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                progress.advance(len(chunk))


def _to_title(release: Release, size: int | None) -> str:
    """What is fetched, how large, with which checksum."""
    bytes_ = f"{size:,} bytes" if size else "size not stated"
    return f"{release.title} ({release.name}, {bytes_}, MD5 {release.md5})"


def _to_reason(error: BaseException) -> str:
    """The first cause of a failed transfer, without the wrapping of three libraries."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).partition(". ")[0].rstrip(".")
