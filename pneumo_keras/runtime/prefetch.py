"""Items that another thread fetches ahead, while the last one is used."""

import collections
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")

AHEAD = 2  # items that wait to be used, at most
JOIN_SECONDS = 2.0  # until the thread is left to itself: it may wait for keyboard input
END: Any = object()


class Prefetch(Generic[T]):
    """Iterates over `items`, which another thread fetches ahead of time.

    Attributes:
        waited: Seconds that the consumer has spent waiting for items after the first.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self.waited = 0.0

    def __iter__(self) -> Iterator[T]:
        """The items; an error raised while one is fetched is raised instead of it."""
        items, thread = iter(self._items), ThreadPoolExecutor(1, "prefetch")
        ahead = collections.deque(thread.submit(next, items, END) for _ in range(AHEAD))
        try:
            item = ahead[0].result()
            while item is not END:
                ahead.popleft()
                ahead.append(thread.submit(next, items, END))
                yield item
                started = time.perf_counter()
                item = ahead[0].result()
                self.waited += time.perf_counter() - started
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
            # To wait for what was cancelled before it began would take all of the time.
            wait([one for one in ahead if not one.cancelled()], JOIN_SECONDS)
