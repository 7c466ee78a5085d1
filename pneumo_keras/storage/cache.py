"""What is cached for later runs, within a limit: the least recently used is removed first."""

import contextlib
import logging
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pneumo_keras.storage.files import remove

log = logging.getLogger("pneumo_keras")

# Files that belong together differ in these parts of their names: `.NAME.partial`, `NAME.npz`, `NAME-cache`.
DIFFERENCES = re.compile(r"^\.|\.(partial|raw|lock|npz)$|-(cache|atime)$")


@dataclass
class Item:
    """Files and folders that are removed together.

    Attributes:
        paths: Paths of the files and folders.
        size: In bytes.
        used: Time of the last use in seconds since 1970; some systems note the reading of a file once a day.
    """

    paths: list[Path] = field(default_factory=list)
    size: int = 0
    used: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A folder of the cache, and what is in it."""

    folder: str
    title: str

    def list_items(self, cache: Path) -> dict[str, Item]:
        """All items by name; what other processes write or remove meanwhile may be left out."""
        items: dict[str, Item] = {}
        with contextlib.suppress(OSError):  # the folder is missing, or cannot be read
            for path in (cache / self.folder).iterdir():
                item = items.setdefault(DIFFERENCES.sub("", path.name), Item())
                with contextlib.suppress(OSError):
                    about = path.lstat()
                    # To list a folder is to use it, for the system: of folders see `mark_used`.
                    times = about.st_mtime, about.st_atime if stat.S_ISREG(about.st_mode) else 0
                    item.used = max(item.used, *times)
                    item.paths.append(path)
                    item.size += _measure(path)
        return items

    def shrink(self, cache: Path, limit: int, *, new: int = 0) -> None:
        """Removes the least recently used until the rest fits the limit, as far as it can be removed.

        Args:
            cache: The folder of all kinds.
            limit: In bytes.
            new: Bytes that will be added; for 0, the item that was used last stays whatever its size.
        """
        items = sorted(self.list_items(cache).items(), key=lambda pair: pair[1].used)
        excess = sum(item.size for _, item in items) + new - limit
        for name, item in items if new else items[:-1]:
            if excess <= 0:
                break
            if all([remove(path) for path in item.paths]):
                excess -= item.size
                log.info("Removed the oldest of the %s, %.0f MB: %s", self.title, item.size / 1e6, name)

    def clear(self, cache: Path) -> bool:
        """Removes all; returns whether all is gone."""
        return remove(cache / self.folder)


def mark_used(path: Path) -> None:
    """Notes that a folder is used, unless it is read-only."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _measure(path: Path) -> int:
    """Bytes of a file, or of all below a folder as far as it can be listed."""
    size = 0
    with contextlib.suppress(OSError):
        for each in (path, *path.rglob("*")):
            with contextlib.suppress(OSError):
                about = each.lstat()
                size += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return size


FEATURES = Kind("features", "features")
PREPARED = Kind("datasets", "prepared images")
HASHES = Kind("hashes", "hashes of images")
PROGRAMS = Kind("jax", "compiled programs")
KINDS = FEATURES, PREPARED, HASHES, PROGRAMS
