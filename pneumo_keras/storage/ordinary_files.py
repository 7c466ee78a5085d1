"""Files that nobody vouches for: opened only if they are ordinary, and read only if they are not too large.

A pipe would be waited for without end, a device never ends, and a sparse file of a few bytes may be
terabytes long.
"""

import errno
import io
import os
import stat
from pathlib import Path

TEXT_BYTES = 1 << 22
"""Of a text, at most: a thousand times what the settings of a run take, sixty times its scores."""


def open_ordinary(path: Path, *, most: int) -> io.BufferedReader:
    """Opens a file to read bytes.

    Args:
        path: Of the file.
        most: Bytes that it may have.

    Raises:
        OSError: It is missing, no ordinary file, larger, or cannot be read.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe waits for somebody who writes.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a path with a null in it
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file", os.fspath(path))
        if found.st_size > most:
            rule = f"it has {found.st_size:,} bytes, and at most {most:,} are read"
            raise OSError(errno.EFBIG, rule, os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_ordinary(path: Path, *, most: int) -> bytes:
    """All bytes of a file; see `open_ordinary`.

    Raises:
        OSError: See `open_ordinary`.
    """
    with open_ordinary(path, most=most) as file:
        return file.read(most)


def read_text(path: Path, *, most: int = TEXT_BYTES) -> str:
    """A text in UTF-8, line ends as they are.

    Raises:
        OSError: See `open_ordinary`.
        UnicodeDecodeError: It is no UTF-8.
    """
    return read_ordinary(path, most=most).decode("utf-8")
