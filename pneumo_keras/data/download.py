"""Files from the network: announced, bounded in size and time, checked, in place whole or not at all."""

import contextlib
import hashlib
import ipaddress
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from pneumo_keras import __version__
from pneumo_keras.errors import DownloadError
from pneumo_keras.runtime.prefetch import Prefetch
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.files import replace_whole, wait_for_lock
from pneumo_keras.storage.printable import to_printable

log = logging.getLogger("pneumo_keras")

CHUNK_BYTES = 1 << 16
SECONDS_OF_SILENCE = 30.0
SLOWEST = 20_000.0  # bytes a second: a server that sends less is given up
HOPS = 10  # redirects that are followed, at most
SHOWN = 300  # characters of what a server says


@dataclass(frozen=True)
class Release:
    """One file as its makers published it.

    Attributes:
        title: What it is, for log lines and errors.
        name: Its file name.
        url: Where it is fetched from: https, or anything on this very machine.
        md5: The checksum its makers state.
        bytes: Its size; None where nobody stated it.
        sha256: A second checksum; None where nobody stated it.
        most: Bytes that it cannot exceed where its size is not stated.
    """

    title: str
    name: str
    url: str
    md5: str
    bytes: int | None = None
    sha256: str | None = None
    most: int = 1 << 30


def fetch_release(release: Release, folder: Path, *, remedy: str) -> Path:
    """Puts a published file into `folder`, unless a verified copy lies there by then.

    Args:
        release: The file, its address, checksum and size.
        folder: Where it goes; made if missing.
        remedy: What to do without a network, as the last sentence of the error.

    Raises:
        DownloadError: It did not arrive whole, in time and with the right checksum. Nothing is left behind.
    """
    target = folder / release.name
    try:
        if _is_verified(target, release):
            return target  # a folder that is only readable will do
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / f".{release.name}.lock"
        with wait_for_lock(lock, "it downloads the same file"):
            if not _is_verified(target, release):
                _download(release, target)
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"Cannot fetch {_to_title(release, release.bytes)} from {release.url} into {folder}: "
            f"{_to_reason(error)}. {remedy}"
        ) from error
    return target


def _download(release: Release, target: Path) -> None:
    """Raises OSError or ValueError where the file does not come as it must."""
    limit = release.bytes or release.most
    (response,) = Prefetch(_open(release.url), seconds=2 * SECONDS_OF_SILENCE)
    size = release.bytes or _to_size(response.headers.get("Content-Length", ""))
    log.info("Downloading %s from %s to %s", _to_title(release, size), release.url, target.parent)
    digests = [hashlib.md5(usedforsecurity=False), hashlib.sha256()]
    taken = 0
    with (
        replace_whole(target) as beside,
        beside.open("wb") as file,
        show_progress(f"Downloading {release.name}", size, "B", scale=True) as progress,
    ):
        for chunk in Prefetch(_read(response), seconds=SECONDS_OF_SILENCE + limit / SLOWEST):
            taken += len(chunk)
            if taken > limit:
                raise OSError(f"the server sends more than {limit:,} bytes")
            file.write(chunk)
            for digest in digests:
                digest.update(chunk)
            progress.advance(len(chunk))
        for digest, expected in zip(digests, (release.md5, release.sha256), strict=True):
            if expected not in (None, digest.hexdigest()):
                name = digest.name.upper()
                raise OSError(f"the {name} must be {expected} but is {digest.hexdigest()}")


def _open(url: str) -> Iterator[Any]:
    """The answer of the server, redirects followed; its body is still to be read."""
    import requests  # takes long enough to be noticed by who needs no download

    headers = {"User-Agent": f"pneumo-keras/{__version__}", "Accept-Encoding": "identity"}
    kind = _classify(url)
    with _explain_transfer():
        for _ in range(HOPS + 1):
            response = requests.get(
                url, headers=headers, stream=True, timeout=SECONDS_OF_SILENCE, allow_redirects=False
            )
            if not response.is_redirect:
                break
            response.close()
            url = urljoin(url, response.headers["Location"])
            if _classify(url) != kind:
                raise OSError(f"the server sends on to {url!r}, another kind of address")
        else:
            raise OSError(f"the server sends on more than {HOPS} times")
        if not response.ok:
            response.close()
            raise OSError(f"the server answered {response.status_code} {response.reason}")
        yield response


def _read(response: Any) -> Iterator[bytes]:
    with _explain_transfer(), response:
        yield from response.iter_content(CHUNK_BYTES)


@contextlib.contextmanager
def _explain_transfer() -> Iterator[None]:
    """Makes an OSError of the few errors of urllib3 that requests lets pass."""
    import urllib3.exceptions

    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise OSError(str(error)) from error


def _classify(url: str) -> str:
    """What kind of address it is: another one is never followed.

    Raises:
        OSError: None that anything is fetched from.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        address = ipaddress.ip_address(host)
        here, public = address.is_loopback, address.is_global
    except ValueError:
        here, public = host == "localhost", bool(host)
    if here and parts.scheme in ("http", "https"):
        return "this machine"
    if public and not here and parts.scheme == "https":
        return "public"
    raise OSError(f"nothing is fetched from {url!r}: it must be a public address of https")


def _to_size(length: str) -> int:
    """What a server states; 0 where that is no size of a file."""
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 16 else 0


def _is_verified(file: Path, release: Release) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        content.seek(0)
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    return md5 == release.md5 and release.sha256 in (None, sha256)


def _to_title(release: Release, size: int | None) -> str:
    """What is fetched, how large, with which checksum."""
    bytes_ = f"{size:,} bytes" if size else "size not stated"
    return f"{release.title} ({release.name}, {bytes_}, MD5 {release.md5})"


def _to_reason(error: BaseException) -> str:
    """The first cause of a failed transfer, without the wrapping of three libraries."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    reason = " ".join(text.split()).partition(". ")[0].rstrip(".")[:SHOWN]
    return to_printable(reason)
