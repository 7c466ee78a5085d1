"""Which files a user means: names, folders, patterns, or a list on stdin."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

STDIN = "-"


def list_files(names: Iterable[str], stdin: Iterable[str]) -> Iterator[str]:
    """The files that names stand for, in an order that is the same every time.

    A folder stands for all files below it but hidden ones; a pattern (`*`, `?`, `[...]`, `**`) for what it
    matches, unless there is a file of that very name; `-` for the lines of stdin. Anything else stands for
    itself, whether it is there or not: whoever opens it can say what is wrong.

    Args:
        names: As the user wrote them.
        stdin: Names of files or folders, one a line.
    """
    for name in names:
        if name == STDIN:
            yield from _expand(line.rstrip("\r\n") for line in stdin if line.strip())
        elif glob.has_magic(name) and not os.path.lexists(name):
            matched = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (Path takes no absolute pattern)
            if "**" in name:  # it matches what lies in folders, too
                matched = [found for found in matched if not _is_folder(found)]
            yield from _expand(matched or [name])  # what matches nothing stands for itself
        else:
            yield from _expand([name])


def _expand(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if _is_folder(name):
            yield from _walk(name)
        else:
            yield name


def _is_folder(name: str) -> bool:
    """Whether there is such a folder; a name that no system takes is none."""
    return os.path.isdir(name)  # noqa: PTH112 (Path raises for some names)


def _walk(folder: str) -> Iterator[str]:
    """All files below a folder: those of each folder by name, before those of the folders in it.

    Links to folders are followed, each folder once. A folder that cannot be read stands for itself.
    """
    unread: list[str] = []
    seen = {os.path.realpath(folder)}

    def note(error: OSError) -> None:
        unread.append(error.filename)

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=note):
        inside = {name: os.path.realpath(Path(parent) / name) for name in sorted(folders)}
        folders[:] = [name for name, real in inside.items() if not name.startswith(".") and real not in seen]
        seen.update(inside[name] for name in folders)
        yield from (str(Path(parent) / name) for name in sorted(files) if not name.startswith("."))
        yield from unread
        unread.clear()
    yield from unread
