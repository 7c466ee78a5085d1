"""Files from the network: announced, bounded in size, verified, and written atomically."""

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo_keras.errors import DownloadError
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.printable import to_printable

log = logging.getLogger("pneumo_keras")

CHUNK_BYTES = 1 << 16
SECONDS_OF_SILENCE = 30.0
REASON = 300  # characters of a message that quotes a server


@dataclass(frozen=True)
class Release:
    """A published file; `title` is human-readable."""

    title: str
    name: str
    url: str
    md5: str
    most: int  # bytes
    bytes: int | None = None  # where they are published

    def describe(self) -> str:
        """What it is, how large, with which checksum."""
        size = f"{self.bytes:,} bytes" if self.bytes else f"at most {self.most:,} bytes"
        return f"{self.title} ({self.name}, {size}, MD5 {self.md5})"


def fetch_release(release: Release, folder: Path, *, remedy: str) -> Path:
    """Downloads a file into `folder`, unless a verified copy is there.

    Args:
        release: The file.
        folder: Made if missing.
        remedy: What to do without a network, as the last sentence of the error.

    Raises:
        DownloadError: It was incomplete, or its checksum was wrong; an older file stays.
    """
    import pooch  # takes noticeably long

    pooch.get_logger().setLevel(logging.ERROR)  # it would announce the file without its size
    try:
        path = pooch.retrieve(
            release.url,
            f"md5:{release.md5}",
            release.name,
            folder,
            downloader=functools.partial(_download, release, folder),  # pyright: ignore[reportArgumentType]  # typed as another
        )
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"Cannot fetch {release.describe()} from {release.url} into {folder}: "
            f"{_to_reason(error)}. {remedy}"
        ) from error
    return Path(path)


def _download(release: Release, folder: Path, url: str, output: str, pooch: Any) -> None:
    """Writes no more bytes than the file can have; pooch verifies it and moves it to its folder."""
    import requests

    log.info("Downloading %s from %s to %s", release.describe(), url, folder)
    most = release.bytes or release.most
    with (
        requests.get(url, stream=True, timeout=SECONDS_OF_SILENCE) as response,
        Path(output).open("wb") as file,
        show_progress(f"Downloading {release.name}", release.bytes or 0, "B", scale=True) as progress,
    ):
        response.raise_for_status()
        for chunk in response.iter_content(CHUNK_BYTES):
            if file.tell() + len(chunk) > most:
                raise OSError(f"the server sends more than {most:,} bytes")
            file.write(chunk)
            progress.advance(len(chunk))


def _to_reason(error: BaseException) -> str:
    """The first cause of a failed transfer, which three libraries wrap."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return to_printable(" ".join(text.split()).partition(". ")[0].rstrip(".")[:REASON])
