"""Files that are written atomically, locks, and folders that have one writer."""

import csv
import hashlib
import io
import itertools
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from pneumo_keras.errors import RunError

log = logging.getLogger("pneumo_keras")

CLAIM = ".claim.lock"
LOCK = re.compile(r"\.[a-z]+\.lock")
"""Names of lock files, which stay where their locks cannot be taken."""
UNFINISHED = re.compile(r"\.[0-9a-f]{12}\..+")
"""Names of files that are written next to others and renamed when they are complete."""
SECONDS_UNTIL_TOLD = 5.0  # of waiting for another process


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yields a new file next to `path` to write to, and renames it to `path` when the block succeeds.

    Its extension is that of `path`, by which some writers choose a format. Its mode is that of the umask.
    """
    new = path.with_name(f".{secrets.token_hex(6)}.{path.name}")
    new.touch(exist_ok=False)
    try:
        yield new
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, line ends as they are."""
    with replace_atomically(path) as new:
        new.write_text(text, encoding="utf-8", newline="")


def remove(path: Path) -> bool:
    """Removes whatever has this name; returns whether it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)


@contextmanager
def wait_for_lock(path: Path, work: str) -> Iterator[None]:
    """Locks a file, once no other process has the lock; `work` is what such a process does, for the log.

    Raises:
        OSError: The lock file cannot be made.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=SECONDS_UNTIL_TOLD)
    except filelock.Timeout:
        log.info("Waiting for another process: %s", work)
        lock.acquire()
    except NotImplementedError as error:  # where nothing can be locked
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claim_folder(path: Path, *, option: str, new: bool = True) -> Iterator[None]:
    """Locks a folder for one writer, and makes it; one that stays empty is removed again.

    Args:
        path: Path of the folder.
        option: The command line's option that named it, for the message.
        new: Whether it must be new or empty.

    Raises:
        RunError: It is taken, or cannot be made.
    """
    with explain_unwritable(path, option=option):
        made = _make(path)
    try:
        with _claim(path / CLAIM, path, option=option):
            with explain_unwritable(path, option=option):
                if new:
                    check_free(path, option=option)
                _remove_unfinished(path)
            yield
    finally:
        with suppress(OSError):
            if made:
                path.rmdir()


@contextmanager
def claim_file(path: Path, *, option: str) -> Iterator[None]:
    """Locks the name of a file for one writer, whichever link leads to it.

    Raises:
        RunError: Another process has the lock, or the file's folder cannot be written.
    """
    real = Path(os.path.realpath(path))
    # A hash, since the longest names can have no ending.
    name = f".{hashlib.sha256(os.fsencode(real.name)).hexdigest()[:16]}.lock"
    with _claim(real.parent / name, path, option=option):
        yield


def is_claimed(path: Path) -> bool:
    """Whether a process is writing to the folder just now."""
    if not (path / CLAIM).exists():
        return False
    try:
        with filelock.FileLock(path / CLAIM, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return False


def check_free(path: Path, *, option: str) -> None:
    """Checks that a folder is new, or has only what a killed writer did not finish.

    Raises:
        RunError: It is taken.
    """
    if path.exists() and not (path.is_dir() and all(map(_is_left_over, path.iterdir()))):
        raise RunError(
            f"{option} must name a new or empty folder, since nothing is ever overwritten. {path} is taken: "
            "name another one, or delete it first."
        )


def check_new(path: Path, *, option: str, ending: str = "") -> None:
    """Checks that there is no such file, and that its name has the required ending.

    Raises:
        RunError: There is one, or it has another ending.
    """
    if ending and path.suffix.casefold() != ending:
        raise RunError(f"{option} must end in {ending}. Received: {path}")
    if path.exists():
        raise RunError(f"{option} must name a new file, since nothing is ever overwritten. Received: {path}")


@contextmanager
def make_dated_folder(parent: Path, stem: str, *, option: str) -> Iterator[Path]:
    """Makes `<stem>-<date>-<time>`, or this and -2, -3, ...; it is removed again if it stays empty.

    Raises:
        RunError: It cannot be made.
    """
    name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    with explain_unwritable(parent, option=option):
        path = next(parent / name for name in names if _make(parent / name))
    try:
        yield path
    finally:
        with suppress(OSError):
            path.rmdir()


@contextmanager
def explain_unwritable(path: Path, *, option: str) -> Iterator[None]:
    """Turns the system's refusal to write into one line.

    Raises:
        RunError: Something inside failed with OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{option} cannot be written: {path} ({error.strerror or error})") from error


def format_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _make(path: Path) -> bool:
    """Makes a folder; returns whether it is new."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


@contextmanager
def _claim(file: Path, path: Path, *, option: str) -> Iterator[None]:
    lock = filelock.FileLock(file, timeout=0)
    with explain_unwritable(path, option=option):
        try:
            lock.acquire()
        except (filelock.Timeout, FileNotFoundError):  # another writer has it, or has just removed it
            raise RunError(f"{path} is being written by another process: name another one.") from None
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        with suppress(OSError):
            lock.release()


def _sync_folder(path: Path) -> None:
    """Keeps the names of its files through a loss of power; some systems open no folders."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_left_over(file: Path) -> bool:
    """Whether a writer leaves it that was killed before it finished a file."""
    return bool(LOCK.fullmatch(file.name) or UNFINISHED.fullmatch(file.name))


def _remove_unfinished(path: Path) -> None:
    """Removes what a killed writer had not finished; no other process writes to the folder."""
    below = [folder for folder in path.iterdir() if folder.is_dir() and not folder.is_symlink()]
    for file in [file for folder in (path, *below) for file in folder.iterdir()]:
        if UNFINISHED.fullmatch(file.name):
            remove(file)
