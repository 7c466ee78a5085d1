"""Files that appear whole or not at all, locks, and folders that belong to one writer."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from pneumo_keras.errors import RunError

log = logging.getLogger("pneumo_keras")

CLAIM = ".claim.lock"
LOCK = re.compile(r"\.[a-z]+\.lock")
"""Names of lock files, which stay where their locks cannot be taken."""
UNFINISHED = re.compile(r"\.[0-9a-f]{12}(\..+)?")
"""Names of what is written beside and moved into place when it is whole."""
SECONDS_UNTIL_TOLD = 5.0  # that one waits for another process before one says so


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Yields a new file beside `path` to write to, and moves it into place when the block ends well.

    Its name ends like `path`, since some writers go by the ending. It has the mode that the umask gives.
    """
    beside = path.with_name(f".{secrets.token_hex(6)}.{path.name}")
    beside.touch(exist_ok=False)
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def replace_together(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yields a folder for files that belong together, and moves them into `folder` when the block ends well.

    The last one describes the others: where it stands, all stand as it says.
    """
    beside = folder / f".{secrets.token_hex(6)}"
    beside.mkdir()
    try:
        yield beside
        for name in names:
            with (beside / name).open("rb+") as file:
                os.fsync(file.fileno())
        (folder / names[-1]).unlink(missing_ok=True)
        for name in names:
            (beside / name).replace(folder / name)
        _sync_folder(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, line ends as they are."""
    with replace_whole(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def remove(path: Path) -> bool:
    """Removes whatever has this name; whether it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)


@contextmanager
def wait_for_lock(path: Path, work: str) -> Iterator[None]:
    """Holds a lock file; waits for another process that holds it, and says what `work` that one does.

    Raises:
        OSError: There can be no lock file.
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
def claim_folder(
    path: Path, *, option: str, may_hold: Callable[[Path], bool] | None = None
) -> Iterator[None]:
    """Holds a new or empty folder for one writer, and makes it; one that stays empty goes again.

    The claim of a process that was killed falls with it.

    Args:
        path: Of the folder.
        option: Of the command line that named it, for the message.
        may_hold: Whether a folder that holds something will do; none will without.

    Raises:
        RunError: It is taken, or cannot be made.
    """
    with explain_unwritable(path, option=option):
        if may_hold is None:
            check_free(path, option=option)
        made = _make(path)
    try:
        with _claim(path / CLAIM, path, option=option):
            with explain_unwritable(path, option=option):
                if _holds_something(path) and not (may_hold and may_hold(path)):
                    raise _to_taken(path, option=option)
                _remove_unfinished(path)
            yield
    finally:
        with suppress(OSError):
            if made:
                path.rmdir()


@contextmanager
def claim_file(path: Path, *, option: str) -> Iterator[None]:
    """Holds the name of a file for one writer, under whatever link others come to it.

    Raises:
        RunError: Another process holds it, or its folder cannot be written.
    """
    real = Path(os.path.realpath(path))
    # A hash, since the longest names leave no room for an ending.
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
    """Checks that a folder is new or empty.

    Raises:
        RunError: It is taken.
    """
    if path.exists() and (not path.is_dir() or _holds_something(path)):
        raise _to_taken(path, option=option)


def check_new(path: Path, *, option: str, ending: str = "") -> None:
    """Checks that there is no such file, and that its name ends as it must.

    Raises:
        RunError: There is one, or it is called otherwise.
    """
    if ending and path.suffix.casefold() != ending:
        raise RunError(f"{option} must end in {ending}. Received: {path}")
    if path.exists():
        raise RunError(f"{option} must name a new file, since nothing is ever overwritten. Received: {path}")


def check_within(folder: Path, path: Path) -> None:
    """Checks that no link leads out of a folder, which may be a link itself, on the way to a file below it.

    Raises:
        RunError: The file, or a folder on the way to it, is a link.
    """
    below = path.relative_to(folder)
    for part in (folder / name for name in [*reversed(below.parents[:-1]), below]):
        # Windows has links that are no symbolic ones.
        if part.is_symlink() or not part.resolve().is_relative_to(folder.resolve()):
            raise RunError(
                f"{part} must lie within {folder}: files are replaced there. Received: a link. Remove it."
            )


@contextmanager
def make_folder(path: Path) -> Iterator[None]:
    """Makes a folder where there is none; if it then stays empty, it goes again."""
    made = not path.is_dir()
    path.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if made:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def make_dated_folder(parent: Path, stem: str, *, option: str) -> Iterator[Path]:
    """Makes `<stem>-<date>-<time>`, with -2, -3, ... behind where that is taken; if it stays empty, it goes.

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
        raise RunError(
            f"{option} must name a place that can be written. Received: {path} ({error.strerror or error})"
        ) from error


def format_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _make(path: Path) -> bool:
    """Makes a folder; whether it was not there."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


@contextmanager
def _claim(file: Path, path: Path, *, option: str) -> Iterator[None]:
    claim = filelock.FileLock(file, timeout=0)
    with explain_unwritable(path, option=option):
        try:
            claim.acquire()
        except (filelock.Timeout, FileNotFoundError):  # another writer holds it, or has just taken it away
            raise RunError(f"{path} is being written by another process: name another one.") from None
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        with suppress(OSError):
            claim.release()


def _sync_folder(path: Path) -> None:
    """Keeps names that were given in it through a loss of power; some systems open no folders."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _holds_something(path: Path) -> bool:
    """Whether there is more in a folder than a writer leaves that was killed before it finished a file."""
    return not all(LOCK.fullmatch(file.name) or UNFINISHED.fullmatch(file.name) for file in path.iterdir())


def _remove_unfinished(path: Path) -> None:
    """Removes what a killed writer had not finished; nobody else writes to the folder."""
    own = [folder for folder in path.iterdir() if folder.is_dir() and not folder.is_symlink()]
    for file in [file for folder in (path, *own) for file in folder.iterdir()]:
        if UNFINISHED.fullmatch(file.name):
            remove(file)


def _to_taken(path: Path, *, option: str) -> RunError:
    return RunError(
        f"{option} must name a new or empty folder, since nothing is ever overwritten. {path} is taken: name "
        "another one, or delete it first."
    )
