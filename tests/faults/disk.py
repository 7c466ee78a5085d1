"""A disk that fails: at one operation of Python's on it, or from one on.

Every operation that Python does on a file or folder below a root counts: opening, writing, syncing, locking,
making, renaming, removing, listing, and asking how much space is left. What C and C++ do for themselves
(HDF5, ArrayRecord) is for the tests with a full disk.
"""

import errno
import fcntl
import io
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

EVENTS = {
    "open",
    "os.chmod",
    "os.link",
    "os.listdir",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.scandir",
    "os.symlink",
    "os.truncate",
    "os.utime",
}
"""Events of Python's audit that are operations on a path, their first argument."""
FOLDERS = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.utime": 3}
"""Where an event has the folder that its path is relative to."""

FULL = ("create", "mkdir", "symlink", "truncate", "write")
"""What a full disk refuses."""
READ_ONLY = (*FULL, "chmod", "link", "open to write", "remove", "rename", "rmdir", "utime")
"""What one refuses that is mounted to be read only."""


@dataclass
class Disk:
    """What happens on it.

    Attributes:
        root: Only what lies below counts.
        fail_at: The operation that fails, counted from 1; none for 0.
        number: Of the error that it fails with.
        lasting: Kinds of operations that fail from that one on; none where it alone fails.
        operations: What was done: its kind and path.
    """

    root: Path
    fail_at: int = 0
    number: int = errno.EIO
    lasting: tuple[str, ...] = ()
    operations: list[tuple[str, str]] = field(default_factory=list)

    def count(self, kind, path):
        """Counts an operation, and fails if it is its turn."""
        if not path.startswith(f"{self.root}/"):
            return
        self.operations.append((kind, path.removeprefix(f"{self.root}/")))
        count = len(self.operations)
        if kind in self.lasting if self.lasting and 0 < self.fail_at <= count else count == self.fail_at:
            raise OSError(self.number, os.strerror(self.number), path)

    def get_failed(self):
        """The operation that failed; none where it never came to that."""
        return self.operations[self.fail_at - 1] if self.fail_at <= len(self.operations) else ("none", "")


class _Current:
    disk = None


class _File(io.FileIO):
    def write(self, data):
        _count("write", self.fileno())
        return super().write(data)

    def truncate(self, size=None):
        _count("truncate", self.fileno())
        return super().truncate(size)


@contextmanager
def failing(disk):
    """Python's files lie on this disk."""
    _listen()
    asked = {
        (os, "statvfs"): ("ask for space", os.statvfs),
        (os, "stat"): ("stat", os.stat),
        (os, "fsync"): ("sync", lambda file: None),  # there will be no loss of power
        (fcntl, "flock"): ("lock", fcntl.flock),  # to unlock does not count: a lock falls with its process
    }
    with mock.patch("io.open", _open), mock.patch("builtins.open", _open):
        patches = [
            mock.patch.object(module, name, _wrap(kind, function))
            for (module, name), (kind, function) in asked.items()
        ]
        for patch in patches:
            patch.start()
        _Current.disk = disk
        try:
            yield disk
        finally:
            _Current.disk = None
            for patch in patches:
                patch.stop()


def _open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    """Python's own, on a file that counts what is written."""
    if not set(mode) & set("wax+"):
        return _ORIGINAL(file, mode, buffering, encoding, errors, newline, closefd, opener)
    raw = _File(file, "".join(sign for sign in mode if sign not in "bt"), closefd, opener)
    try:
        if not buffering:
            return raw
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)
    except BaseException:
        raw.close()
        raise


_ORIGINAL = io.open


def _wrap(kind, function):
    def call(path, *arguments, **options):
        if arguments[:1] != (fcntl.LOCK_UN,):
            _count(kind, path, options.get("dir_fd"))
        return function(path, *arguments, **options)

    return call


def _count(kind, path, folder=None):
    disk = _Current.disk
    if disk is None:
        return
    try:
        path = _name(path) if isinstance(path, int) else os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            path = f"{_name(folder)}/{path}"
    except (OSError, TypeError):  # closed, or no path
        return
    disk.count(kind, os.path.abspath(path))  # noqa: PTH100 (the disk's own operations must not count)


def _name(descriptor):
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _audit(event, arguments):
    if _Current.disk is None or event not in EVENTS:
        return
    folder = arguments[FOLDERS[event]] if event in FOLDERS else None
    kind = event.removeprefix("os.")
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, int):
            return  # opened before
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            kind = "open to write" if os.access(path, os.F_OK) else "create"
    _count(kind, arguments[0], folder)


_LISTENING = []


def _listen():
    """Python takes a listener for good."""
    if not _LISTENING:
        sys.addaudithook(_audit)
        _LISTENING.append(_audit)
