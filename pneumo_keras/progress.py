"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. On stderr."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from pneumo_keras.stopping import check_lost_stop

log = logging.getLogger("pneumo_keras")

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts finished units of one piece of work and shows them."""

    def __init__(self, what: str, total: int, unit: str, *, scale: bool, done: int) -> None:
        self._what, self._total, self._unit, self._scale = what, total, unit, scale
        self._started = self._shown = time.monotonic()
        self._before = self._done = done
        self._bar = (
            tqdm(total=total, initial=done, desc=what, unit=f" {unit}", unit_scale=scale, leave=False)
            if sys.stderr.isatty() and log.level <= logging.INFO
            else None
        )

    def advance(self, count: int) -> None:
        """Adds `count` finished units; where somebody asked to stop meanwhile, the work ends here."""
        check_lost_stop()
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            log.info("%s", self._to_line(self._shown - self._started))

    def _to_line(self, seconds: float) -> str:
        rate = (self._done - self._before) / seconds
        counts = [self._done, *([self._total] if self._total else [])]
        counted = " of ".join(tqdm.format_sizeof(n) if self._scale else f"{n:,}" for n in counts)
        line = f"{self._what}: {counted} {self._unit}, {tqdm.format_sizeof(rate)}/s"
        remaining = self._total - self._done  # below 0 where nobody knows the total
        return (
            f"{line}, about {tqdm.format_interval(remaining / rate)} left" if remaining > 0 < rate else line
        )

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def show_progress(
    what: str, total: int, unit: str, *, scale: bool = False, done: int = 0
) -> Iterator[Progress]:
    """Shows the progress of the work inside the `with` block, and about how long it will take.

    Args:
        what: The work.
        total: Units in all; 0 where nobody knows.
        unit: In the plural.
        scale: Whether to write 1.2M for 1,234,567.
        done: Units that an earlier attempt finished.
    """
    progress = Progress(what, total, unit, scale=scale, done=done)
    try:
        yield progress
    finally:
        progress.close()
