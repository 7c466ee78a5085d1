"""Folders of what can be made again, within a limit: what was used longest ago goes first."""

import contextlib
import logging
import re
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pneumo_keras.storage.chunked import remove
from pneumo_keras.storage.hold import HOLDS, LOCK, load_held, lock_store

log = logging.getLogger("pneumo_keras")

PASSING = re.compile(r"\.(partial|raw|lock)$")

ToName = Callable[[str], str]
"""From the name of a file or folder to what it is a part of."""


@dataclass
class Item:
    """Files that are kept and removed together.

    Attributes:
        paths: Files and folders.
        size: In bytes.
        used: When, in seconds since 1970; some systems note it once a day.
    """

    paths: list[Path] = field(default_factory=list)
    size: int = 0
    used: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A folder of the cache.

    Attributes:
        folder: Its name.
        title: What it holds, in words.
        to_name: Of what a file or folder in it is a part.
        has_holds: Whether those who use an item hold it, so that it stays.
    """

    folder: str
    title: str
    to_name: ToName
    has_holds: bool = False

    def list_items(self, cache: Path) -> dict[str, Item]:
        """All that is kept, by name; what comes and goes meanwhile may be left out."""
        items: dict[str, Item] = {}
        for path in _list_paths(cache / self.folder):
            item = items.setdefault(self.to_name(path.name), Item())
            item.paths.append(path)
            for file in _walk(path):
                with contextlib.suppress(OSError):
                    about = file.lstat()
                    # To list a folder is to use it, for the system.
                    is_file = stat.S_ISREG(about.st_mode)
                    item.size += about.st_size if is_file else 0
                    item.used = max(item.used, about.st_mtime, about.st_atime if is_file else 0)
        return items

    def shrink(self, cache: Path, limit: int) -> None:
        """Removes what nobody holds, the oldest first, until the rest fits the limit.

        Where that cannot be done, it is left.

        Args:
            cache: The folder of all kinds.
            limit: In bytes.
        """
        items = self.list_items(cache)
        if sum(item.size for item in items.values()) <= limit:
            return
        with contextlib.suppress(OSError, NotImplementedError), self._locked(cache) as held:
            items = self.list_items(cache)
            excess = sum(item.size for item in items.values()) - limit
            for name, item in sorted(items.items(), key=lambda pair: pair[1].used):
                if excess > 0 and name not in held and all(map(remove, item.paths)):
                    excess -= item.size
                    log.info("Removed the oldest of the %s, %.0f MB: %s", self.title, item.size / 1e6, name)

    def clear(self, cache: Path) -> list[Path]:
        """Removes all that nobody holds.

        Returns:
            What stays, since somebody uses it or it cannot be removed.

        Raises:
            OSError: The folder cannot be written.
        """
        folder = cache / self.folder
        if not folder.is_dir():
            return [] if remove(folder) else [folder]
        with self._locked(cache) as held:
            return [
                path for path in _list_paths(folder) if self.to_name(path.name) in held or not remove(path)
            ]

    @contextlib.contextmanager
    def _locked(self, cache: Path) -> Iterator[Collection[str]]:
        """Names of what is held; nobody holds anything more meanwhile."""
        if not self.has_holds:
            yield ()
            return
        with lock_store(cache / self.folder):
            yield load_held(cache / self.folder)


def _list_paths(folder: Path) -> list[Path]:
    """All but the holds; none where there is no folder, or none that can be read."""
    try:
        return [path for path in folder.iterdir() if path.name not in (HOLDS, LOCK)]
    except OSError:
        return []


def _walk(path: Path) -> Iterator[Path]:
    """A path and all below it, as far as that can be listed."""
    yield path
    with contextlib.suppress(OSError):
        yield from path.rglob("*")


FEATURES = Kind("features", "features", lambda name: name, has_holds=True)
# What belongs to a set that is being prepared is hidden and has an ending.
PREPARED = Kind("datasets", "prepared images", lambda name: PASSING.sub("", name).lstrip("."), has_holds=True)
HASHES = Kind("hashes", "hashes of images", lambda name: name.partition(".")[0])
PROGRAMS = Kind("jax", "compiled programs", lambda name: name.rpartition("-")[0] or name)
KINDS = FEATURES, PREPARED, HASHES, PROGRAMS
