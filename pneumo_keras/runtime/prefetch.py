"""Work ahead: the next items are drawn by another thread while the last one is used."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2  # drawn items that wait to be used
PATIENCE = 2.0  # seconds for the other thread to end: it may be waiting for somebody to type


class Prefetch(Generic[T]):
    """Iterates over `items`, which another thread draws ahead of time.

    Args:
        items: Any.
        seconds: In which all of them must have come; None for no limit.

    Attributes:
        waited: Seconds that the consumer has spent waiting for items after the first.
    """

    def __init__(self, items: Iterable[T], *, seconds: float | None = None) -> None:
        self._items, self._seconds = items, seconds
        self._queue: queue.Queue[T | BaseException | None] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self.waited = 0.0

    def __iter__(self) -> Iterator[T]:
        """The items.

        Raises:
            TimeoutError: They took too long. The thread is left behind with the one it waits for.
        """
        thread = threading.Thread(target=self._draw, daemon=True, name="prefetch")
        thread.start()
        deadline = None if self._seconds is None else time.monotonic() + self._seconds
        try:
            first = True
            while True:
                started = time.perf_counter()
                item = self._get(deadline)
                if not first:
                    self.waited += time.perf_counter() - started
                first = False
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._stopped.set()
            thread.join(PATIENCE if deadline is None else 0)

    def _get(self, deadline: float | None) -> T | BaseException | None:
        left = None if deadline is None else deadline - time.monotonic()
        with contextlib.suppress(queue.Empty):
            if left is None or left > 0:
                return self._queue.get(timeout=left)
        raise TimeoutError(f"it took longer than {self._seconds:,.0f} s")

    def _draw(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 (raised again where the items are used)
            self._put(error)

    def _put(self, item: T | BaseException | None) -> bool:
        """Hands an item over, unless nobody wants it any more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
