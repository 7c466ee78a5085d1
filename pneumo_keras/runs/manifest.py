"""What the files of a run should hold: a SHA-256 of each, in the format of `sha256sum -c`."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pneumo_keras.errors import RunError
from pneumo_keras.storage.bounded_reading import open_ordinary, read_text
from pneumo_keras.storage.files import wait_for_lock, write_whole

NAME = "manifest.sha256"
LOCK = ".manifest.lock"
AGAIN = "Train or evaluate again."
MOST_BYTES = 1 << 34  # of a file of a run
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def load_manifest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its name below the folder; none where nothing was finished.

    Raises:
        RunError: The manifest is damaged.
    """
    path = folder / NAME
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path} cannot be read: {reason}. Train again.") from error
    rows = [LINE.fullmatch(line) for line in lines]
    if not all(rows):
        raise RunError(f"{path} is damaged: it must hold a SHA-256 and a name in each line. Train again.")
    return {row[2]: row[1] for row in rows if row}


def extend_manifest(folder: Path, names: Iterable[str]) -> None:
    """Notes what files hold now; those that are gone are forgotten. One writer at a time.

    Raises:
        RunError: The manifest cannot be written, or is damaged.
    """
    try:
        with _lock(folder):
            noted = {**load_manifest(folder), **{name: "" for name in names}}
            there = [name for name in sorted(noted) if (folder / name).is_file()]
            found = {name: noted[name] or hash_file(folder / name) for name in there}
            write_whole(folder / NAME, format_manifest(found))
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{folder / NAME} cannot be written: {reason}") from error


def verify_file(folder: Path, name: str) -> Path:
    """The path of a file, once it holds what the manifest says.

    Args:
        folder: Of a run.
        name: Of the file, below the folder.

    Raises:
        RunError: It does not, or is missing.
    """
    path, noted = folder / name, load_manifest(folder).get(name)
    if noted is None:
        raise RunError(f"{path} is missing, or what should have written it was stopped. {AGAIN}")
    try:
        found = hash_file(path)
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing. {AGAIN}") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}. {AGAIN}") from error
    if found != noted:
        raise RunError(
            f"{path} is damaged or was changed: it must hold what {NAME} says. Received: SHA-256 "
            f"{found[:12]}..., not {noted[:12]}.... {AGAIN}"
        )
    return path


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Held by the one writer; its file goes again."""
    with wait_for_lock(folder / LOCK, f"it writes {folder / NAME}"):
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / LOCK).unlink()


def format_manifest(found: Mapping[str, str]) -> str:
    """A line for each file, as `sha256sum` writes them."""
    return "".join(f"{digest}  {name}\n" for name, digest in found.items())


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open_ordinary(path, most=MOST_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
