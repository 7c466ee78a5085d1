"""Turns: who writes what others want to write, too, and how long those wait."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

log = logging.getLogger("pneumo_keras")

SECONDS_UNTIL_TOLD = 5.0  # that one waits for another process before one says so
SECONDS_OF_PATIENCE = 600.0  # with one that gets nothing done: it may have been stopped for good


@contextmanager
def take_turn(path: Path, work: str, watch: Callable[[], object]) -> Iterator[None]:
    """Holds a lock; waits for whoever holds it, as long as that one gets on.

    Args:
        path: Of the lock file. The lock of a killed process falls with it.
        work: That is done in turns, for messages.
        watch: Gives another value when the other one has got on.

    Raises:
        TimeoutError: The other one holds the lock and has long got nothing done.
        OSError: There can be no lock file.
    """
    lock = filelock.FileLock(path)
    state, since, told = watch(), time.monotonic(), False
    while not _try_to_lock(lock):
        if not told:
            log.info("Waiting for another process: %s", work)
            told = True
        now = watch()
        if now != state:
            state, since = now, time.monotonic()
        if time.monotonic() - since > SECONDS_OF_PATIENCE:
            raise TimeoutError(f"another process holds {path} and gets nothing done. End it")
    try:
        yield
    finally:
        lock.release()


def _try_to_lock(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=SECONDS_UNTIL_TOLD)
    except filelock.Timeout:
        return False
    return True
