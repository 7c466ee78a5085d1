"""Who uses which entries of a store, so that nobody removes what another process reads or writes."""

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock

from pneumo_keras.storage.files import write_whole
from pneumo_keras.storage.locks import take_turn

HOLDS = "holds"  # a folder beside those of the entries
LOCK = "store.lock"


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
        """Holds these entries, too, whether they are there yet or not.

        Raises:
            OSError: The store cannot be written. What was held stays so.
        """
        with lock_store(self._folder):
            lock = self._lock or _lock_list(self._folder)
            together = self._names.union(names)
            try:
                write_whole(_to_list(Path(lock.lock_file)), json.dumps(sorted(together)))
            except OSError:
                if self._lock is None:
                    lock.release()
                raise
            self._lock, self._names = lock, together

    def release(self) -> None:
        """Holds nothing any more."""
        if self._lock is not None:
            self._lock.release()
        self._lock, self._names = None, set()


@contextlib.contextmanager
def lock_store(store: Path) -> Iterator[None]:
    """Taken for a moment by whoever begins to hold entries, or removes some that nobody holds.

    Raises:
        OSError: The store cannot be written, or somebody keeps it for long.
    """
    _to_folder(store).mkdir(parents=True, exist_ok=True)
    with take_turn(store / LOCK, f"it looks through {store}", lambda: 0):
        yield


def load_held(store: Path) -> set[str]:
    """Names of all entries that any process holds; forgets the holds of processes that are gone.

    The store must be locked.
    """
    held: set[str] = set()
    for file in _to_folder(store).glob("*.lock"):
        try:
            filelock.FileLock(file, timeout=0).acquire().lock.release()
        except filelock.Timeout:
            held |= _load_names(store, _to_list(file))
        except OSError:  # no lock of ours
            continue
        else:
            with contextlib.suppress(OSError):
                _to_list(file).unlink(missing_ok=True)
                file.unlink()
    return held


def _lock_list(store: Path) -> filelock.BaseFileLock:
    file = _to_folder(store) / f"{secrets.token_hex(8)}.lock"
    lock = filelock.FileLock(file, timeout=0, thread_local=False)
    lock.acquire()
    return lock


def _load_names(store: Path, file: Path) -> set[str]:
    """The names in a list; where it cannot be read, those of all entries, which may be held by it."""
    try:
        if file.is_file():
            return set(map(str, json.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    return {path.name for path in store.iterdir()}


def _to_folder(store: Path) -> Path:
    return store / HOLDS


def _to_list(lock: Path) -> Path:
    return lock.with_suffix(".json")
