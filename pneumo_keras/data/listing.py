"""Which files a user means: names, folders, patterns, or a list on stdin."""

import codecs
import glob
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pneumo_keras.data.kinds import PassedOver, is_image_file
from pneumo_keras.errors import DataError

STDIN = "-"
LINE_BYTES = 1 << 20  # of a name on stdin: 250 times the longest that a system takes
WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def list_files(names: Iterable[str], stdin: Iterable[str], others: PassedOver) -> Iterator[str]:
    """The files that names stand for, in an order that is the same every time.

    A folder stands for all images below it but hidden ones; a pattern (`*`, `?`, `[...]`, `**`) for the
    images that it matches, unless there is a file of that very name; `-` for the lines of stdin. Anything
    else stands for itself, whether it is there or not: whoever opens it can say what is wrong.

    Args:
        names: As the user wrote them.
        stdin: Names of files or folders, one a line.
        others: Counts the files of other kinds that lie in folders or match patterns.

    Raises:
        DataError: The list on stdin is none.
    """
    for name in names:
        if name == STDIN:
            yield from _expand(stdin, others)
        elif glob.has_magic(name) and not os.path.lexists(name):
            matched = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (Path takes no absolute pattern)
            if "**" in name:  # it matches what lies in folders, too
                matched = [found for found in matched if not _is_folder(found)]
            for found in matched:
                yield from walk_images(found, others) if _is_folder(found) else _keep_images([found], others)
            if not matched:
                yield name
        else:
            yield from _expand([name], others)


def read_names(stdin: object) -> Iterator[str]:
    """The names of a list on stdin, one a line, as they come; any bytes but UTF-16 with its mark are one.

    Args:
        stdin: `sys.stdin`, which is None where it is closed.

    Raises:
        DataError: It is no list of names.
    """
    source: Any = getattr(stdin, "buffer", None)
    if source is None:
        raise _to_no_list("stdin is closed")
    try:
        first = source.readline(LINE_BYTES)
        if first.startswith(WIDE_MARKS):  # of some editors on Windows
            try:
                text = (first + source.read()).decode("utf-16")
            except UnicodeDecodeError as error:
                raise _to_no_list(f"damaged UTF-16 ({error.reason})") from None
            if "\0" in text:
                raise _to_no_list("null characters, as UTF-32 has them")
            source, first = io.BytesIO(text.encode("utf-8", "surrogatepass")), b""
        if b"\0" in first:
            raise _to_no_list("null characters, as find -print0 and UTF-16 without a mark write them")
        line = first.removeprefix(codecs.BOM_UTF8) or source.readline(LINE_BYTES)
        while line:
            if len(line) == LINE_BYTES:
                raise _to_no_list(f"a line above {LINE_BYTES:,} bytes")
            if name := line.rstrip(b"\r\n"):
                yield os.fsdecode(name)
            line = source.readline(LINE_BYTES)
    except OSError as error:
        raise _to_no_list(error.strerror or str(error)) from error


def _to_no_list(received: str) -> DataError:
    return DataError(f"PATH - needs a list on stdin, one name a line. Received: {received}")


def _expand(names: Iterable[str], others: PassedOver) -> Iterator[str]:
    for name in names:
        if _is_folder(name):
            yield from walk_images(name, others)
        else:
            yield name


def walk_images(folder: str, others: PassedOver) -> Iterator[str]:
    """All images below a folder but hidden ones: those of each folder by name, before those in folders in it.

    Links to folders are followed, each folder once. A folder that cannot be read stands for itself: whoever
    opens it can say what is wrong.
    """
    yield from _keep_images(_walk(folder), others)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's own: hidden, or left by a Mac in an archive."""
    return name.startswith(".") or name == "__MACOSX"


def _keep_images(found: Iterable[str], others: PassedOver) -> Iterator[str]:
    """Of files that were found rather than named."""
    for name in found:
        if is_image_file(name):
            yield name
        else:
            others.add(name)


def _is_folder(name: str) -> bool:
    """Whether there is such a folder; a name that no system takes is none."""
    return os.path.isdir(name)  # noqa: PTH112 (Path raises for some names)


def _walk(folder: str) -> Iterator[str]:
    unread: list[str] = []
    root = os.path.realpath(folder)
    seen = {root, *map(str, Path(root).parents)}

    def note(error: OSError) -> None:
        unread.append(error.filename)

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=note):
        inside = {os.path.realpath(Path(parent) / name): name for name in sorted(folders, reverse=True)}
        folders[:] = sorted(name for real, name in inside.items() if not is_hidden(name) and real not in seen)
        seen.update(inside)
        yield from (str(Path(parent) / name) for name in sorted(files) if not is_hidden(name))
        yield from unread
        unread.clear()
    yield from unread
