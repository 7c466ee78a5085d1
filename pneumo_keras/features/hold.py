"""Who uses which entries of a store, so that nobody removes what another process reads or writes."""

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

import filelock

from pneumo_keras.files import write_whole

HOLDS = "holds"  # a folder beside those of the entries


class Hold:
    """Entries that stay until `release`, the end of the process, or the last reference to the hold.

    A list of their names beside a lock file that is locked as long: the lock of a killed process
    falls with it. One lock for all entries, since filelock's `ReadWriteLock` on each would keep two
    files open for each, where hundreds of views meet the usual limit of 1024, and lets no thread
    release what another one took.
    """

    def __init__(self, store: Path) -> None:
        self._folder, self._names = store, set[str]()
        self._lock: filelock.BaseFileLock | None = None

    def add(self, names: Iterable[str]) -> None:
        """Holds these entries, too, whether they are there yet or not."""
        with lock_store(self._folder):
            if self._lock is None:
                file = _to_folder(self._folder) / f"{secrets.token_hex(8)}.lock"
                self._lock = filelock.FileLock(file, timeout=0, thread_local=False)
                self._lock.acquire()
            self._names.update(names)
            write_whole(_to_list(Path(self._lock.lock_file)), json.dumps(sorted(self._names)))

    def release(self) -> None:
        """Holds nothing any more."""
        if self._lock is not None:
            self._lock.release()
        self._lock, self._names = None, set()


def lock_store(store: Path) -> filelock.BaseFileLock:
    """Taken for a moment by whoever begins to hold entries, or removes some that nobody holds."""
    _to_folder(store).mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(store / "store.lock")


def load_held(store: Path) -> set[str]:
    """Names of all entries that any process holds; forgets the holds of processes that are gone.

    The store must be locked.
    """
    held: set[str] = set()
    for file in _to_folder(store).glob("*.lock"):
        try:
            filelock.FileLock(file, timeout=0).acquire().lock.release()
        except filelock.Timeout:
            held.update(json.loads(_to_list(file).read_text(encoding="utf-8")))
        else:
            _to_list(file).unlink(missing_ok=True)
            file.unlink()
    return held


def _to_folder(store: Path) -> Path:
    return store / HOLDS


def _to_list(lock: Path) -> Path:
    return lock.with_suffix(".json")
