"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. On stderr."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

log = logging.getLogger("pneumo_keras")

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts finished units of one piece of work and shows them."""

    def __init__(self, what: str, total: int, unit: str, *, scale: bool) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._started = self._shown = time.monotonic()
        self._done = 0
        self._bar = (
            tqdm(total=total, desc=what, unit=f" {unit}", unit_scale=scale, leave=False)
            if sys.stderr.isatty()
            else None
        )

    def advance(self, count: int) -> None:
        """Adds `count` finished units."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            rate = self._done / (self._shown - self._started)
            log.info("%s: %d of %d %s (%.0f/s)", self._what, self._done, self._total, self._unit, rate)

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def show_progress(what: str, total: int, unit: str, *, scale: bool = False) -> Iterator[Progress]:
    """Shows the progress of the work inside the `with` block."""
    progress = Progress(what, total, unit, scale=scale)
    try:
        yield progress
    finally:
        progress.close()
