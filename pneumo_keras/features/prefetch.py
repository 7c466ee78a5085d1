"""Work ahead: the next batches are prepared while the network computes."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2  # prepared batches that wait for the network
PATIENCE = 2.0  # seconds for the other thread to end: it may be waiting for somebody to type


class Prefetch(Generic[T]):
    """Iterates over `items`, which another thread draws ahead of time.

    Attributes:
        waited: Seconds that the consumer has spent waiting for items after the first.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._queue: queue.Queue[T | BaseException | None] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self.waited = 0.0

    def __iter__(self) -> Iterator[T]:
        thread = threading.Thread(target=self._draw, daemon=True, name="prefetch")
        thread.start()
        try:
            first = True
            while True:
                started = time.perf_counter()
                item = self._queue.get()
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
            thread.join(PATIENCE)

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
