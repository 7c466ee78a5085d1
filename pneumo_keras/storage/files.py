"""Files that appear whole or not at all, folders that belong to one writer, and tables as text."""

import csv
import hashlib
import io
import itertools
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

CLAIM = ".claim.lock"
LOCK = re.compile(r"\.[a-z]+\.lock")
"""Names of lock files, which stay where their locks cannot be taken."""
BESIDE = re.compile(r"\.[0-9a-f]{12}(\..+)?")
"""Names of what is written beside and moved into place when it is whole."""


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, and moves it into place when all went well.

    The name ends like `path`, since some writers go by the ending. The file has the mode that the
    umask gives.
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
    """Gives a folder to write files to that belong together, and moves them into place when all went well.

    The last one speaks of the others: where it stands, all stand as it says.

    Args:
        folder: Where they will stand.
        names: Of all files.
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


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, line ends as they are."""
    with replace_whole(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


@contextmanager
def claim_folder(
    path: Path, *, option: str, may_hold: Callable[[Path], bool] | None = None
) -> Iterator[None]:
    """Holds a new or empty folder for one writer, and makes it where it is not there.

    Of two writers that come at once one gets it; the claim of one that was killed falls with it. Where
    nothing was written, a folder that was made here goes again.

    Args:
        path: Of the folder.
        option: Of the command line that named it, for the message.
        may_hold: Whether a folder that holds something will do; none will without.

    Raises:
        RunError: It is taken, or cannot be made.
    """
    claim = filelock.FileLock(path / CLAIM, timeout=0)
    with explain_unwritable(path, option=option):
        if may_hold is None:
            check_free(path, option=option)
        made = _make(path)
        try:
            claim.acquire()
        except (filelock.Timeout, FileNotFoundError):  # another writer holds it, or has just taken it away
            raise RunError(f"{path} is being written by another process: name another folder.") from None
    try:
        with explain_unwritable(path, option=option):
            if _holds_something(path) and not (may_hold and may_hold(path)):
                raise _to_taken(path, option=option)
            _remove_halves(path)
        yield
    finally:
        with suppress(OSError):
            Path(claim.lock_file).unlink()
        with suppress(OSError):
            claim.release()
        with suppress(OSError):
            if made:
                path.rmdir()


@contextmanager
def claim_file(path: Path, *, option: str) -> Iterator[None]:
    """Holds the name of a file for one writer, under whatever name or link others come to it.

    Of two writers that come at once one gets it; the claim of one that was killed falls with it.

    Args:
        path: Of the file, which need not be there.
        option: Of the command line that named it, for the message.

    Raises:
        RunError: Another process holds it, or its folder cannot be written.
    """
    real = Path(os.path.realpath(path))
    # A name of its own would be too long for the longest names.
    place = real.parent / f".{hashlib.sha256(os.fsencode(real.name)).hexdigest()[:16]}.lock"
    claim = filelock.FileLock(place, timeout=0)
    with explain_unwritable(path, option=option):
        try:
            claim.acquire()
        except filelock.Timeout:
            raise RunError(f"{path} is being written by another process: name another file.") from None
    try:
        yield
    finally:
        with suppress(OSError):
            place.unlink()
        with suppress(OSError):
            claim.release()


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
    """Checks that there is no such file.

    Args:
        path: Of the file.
        option: Of the command line that named it, for the message.
        ending: Of its name, where it must have one.

    Raises:
        RunError: There is one, or it is called otherwise.
    """
    if ending and path.suffix.casefold() != ending:
        raise RunError(f"{option} must end in {ending}. Received: {path}")
    if path.exists():
        raise RunError(f"{option} must name a new file, since nothing is ever overwritten. Received: {path}")


@contextmanager
def make_dated_folder(parent: Path, stem: str, *, option: str) -> Iterator[Path]:
    """Makes `<stem>-<date>-<time>`, with -2, -3, ... behind where that is taken; if it stays empty, it goes.

    Args:
        parent: Made too.
        stem: What the name begins with.
        option: Of the command line that would have named another folder.

    Raises:
        RunError: It cannot be made.
    """
    name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    with explain_unwritable(parent, option=option):
        parent.mkdir(parents=True, exist_ok=True)
        path = next(path for path in _list_names(parent / name) if _make(path))
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


def _list_names(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))


def _make(path: Path) -> bool:
    """Makes a folder; whether it was not there."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


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
    return not all(LOCK.fullmatch(file.name) or BESIDE.fullmatch(file.name) for file in path.iterdir())


def _remove_halves(path: Path) -> None:
    """Removes what a killed writer had not finished; nobody else writes to the folder."""
    own = [folder for folder in path.iterdir() if folder.is_dir() and not folder.is_symlink()]
    files = [file for folder in (path, *own) for file in folder.iterdir()]
    for half in (file for file in files if BESIDE.fullmatch(file.name)):
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            half.unlink(missing_ok=True)


def _to_taken(path: Path, *, option: str) -> RunError:
    return RunError(
        f"{option} must name a new or empty folder, since nothing is ever overwritten. {path} is taken: name "
        "another one, or delete it first."
    )
