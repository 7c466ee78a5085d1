"""Which files a user means: names, folders, patterns, or a list on stdin."""

import codecs
import functools
import glob
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pneumo_keras.data.kinds import is_image_file
from pneumo_keras.errors import DataError
from pneumo_keras.storage.printable import to_amount

SHOWN = 3  # names of files that were ignored
STDIN = "-"
LINE_BYTES = 1 << 20  # of a name on stdin: 250 times the longest that a system takes
WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class IgnoredFiles:
    """Files of other kinds than images that were found in folders: how many, and the first of them.

    Files that a user names are never ignored.
    """

    def __init__(self) -> None:
        self.count, self._first = 0, list[str]()

    def keep_images(self, found: Iterable[str]) -> Iterator[str]:
        """The images of these files; counts the others."""
        for name in found:
            if is_image_file(name):
                yield name
            else:
                self.count += 1
                self._first += [name] if self.count <= SHOWN else []

    def describe(self) -> str:
        """Human-readable, in a line."""
        more = self.count - len(self._first)
        names = ", ".join(self._first) + (f" and {more:,} more" if more else "")
        return f"{to_amount(self.count, 'file')} of other kinds ignored: {names}"


def list_files(names: Iterable[str], stdin: Iterable[str], ignored: IgnoredFiles) -> Iterator[str]:
    """The files that names match, in an order that is the same every time.

    A folder means all images below it except hidden ones; a pattern (`*`, `?`, `[...]`, `**`) the images
    that it matches, unless there is a file of that very name; `-` the lines of stdin. Anything else is
    yielded as it is, whether it exists or not: its decoder reports what is wrong.

    Args:
        names: As the user wrote them.
        stdin: Names of files or folders, one a line.
        ignored: Counts the files of other kinds that are in folders or match patterns.

    Raises:
        DataError: stdin is not a list of names.
    """
    for name in names:
        if name == STDIN:
            yield from _expand(stdin, ignored)
        elif glob.has_magic(name) and not os.path.lexists(name):
            matched = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (Path takes no absolute pattern)
            if "**" in name:  # it matches what is in folders, too
                matched = [found for found in matched if not _is_folder(found)]
            for found in matched:
                yield from walk_images(found, ignored) if _is_folder(found) else ignored.keep_images([found])
            if not matched:
                yield name
        else:
            yield from _expand([name], ignored)


def read_names(stdin: object) -> Iterator[str]:
    """The names of a list on stdin, one a line, as they come: any bytes, or UTF-16 with its mark.

    Args:
        stdin: `sys.stdin`, which is None where it is closed.

    Raises:
        DataError: It is not a list of names.
    """
    source: Any = getattr(stdin, "buffer", None)
    if source is None:
        raise _to_list_error("stdin is closed")
    try:
        first = source.readline(LINE_BYTES)
        if first.startswith(WIDE_MARKS):  # of some editors on Windows
            text = (first + source.read()).decode("utf-16")
            source = io.BytesIO(text.encode("utf-8", "surrogatepass"))
            first = source.readline(LINE_BYTES)
        if b"\0" in first:
            raise _to_list_error(
                "null characters, as find -print0, UTF-32 and UTF-16 without a mark write them"
            )
        others = iter(functools.partial(source.readline, LINE_BYTES), b"")
        for line in itertools.chain([first.removeprefix(codecs.BOM_UTF8)], others):
            if len(line) == LINE_BYTES:
                raise _to_list_error(f"a line above {LINE_BYTES:,} bytes")
            if name := line.rstrip(b"\r\n"):
                yield os.fsdecode(name)
    except UnicodeDecodeError as error:
        raise _to_list_error(f"damaged UTF-16 ({error.reason})") from None
    except OSError as error:
        raise _to_list_error(error.strerror or str(error)) from error


def _to_list_error(received: str) -> DataError:
    return DataError(f"PATH - needs a list on stdin, one name a line. Received: {received}")


def _expand(names: Iterable[str], ignored: IgnoredFiles) -> Iterator[str]:
    for name in names:
        if _is_folder(name):
            yield from walk_images(name, ignored)
        else:
            yield name


def walk_images(folder: str, ignored: IgnoredFiles) -> Iterator[str]:
    """All images below a folder except hidden ones: those of each folder before those of its folders.

    Links to folders are followed, each folder once. A folder that cannot be read is yielded itself: its
    decoder reports what is wrong.
    """
    yield from ignored.keep_images(_walk(folder))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or left by a Mac in an archive."""
    return name.startswith(".") or name == "__MACOSX"


def _is_folder(name: str) -> bool:
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
