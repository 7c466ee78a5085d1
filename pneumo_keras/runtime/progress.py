"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. On stderr."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from pneumo_keras.runtime.signals import check_stop

log = logging.getLogger("pneumo_keras")

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts finished units of one piece of work and shows them."""

    def __init__(self, what: str, total: int, unit: str, *, scale: bool, done: int) -> None:
        self._what, self._total, self._unit, self._scale = what, total, unit, scale
        self._shown = time.monotonic()
        self._done = done
        self._first: tuple[float, int] | None = None  # when the first units were done, and how many
        self._bar = (
            tqdm(total=total, initial=done, desc=what, unit=f" {unit}", unit_scale=scale, leave=False)
            if sys.stderr.isatty() and not _is_quiet()
            else None
        )

    def advance(self, count: int) -> None:
        """Adds `count` finished units; where somebody asked to stop meanwhile, the work ends here."""
        check_stop()
        self._done += count
        now = time.monotonic()
        if count and self._first is None:
            self._first = now, self._done
        if self._bar is not None:
            self._bar.update(count)
        elif now - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = now
            log.info("%s", self._to_line(now))

    def _to_line(self, now: float) -> str:
        counts = [self._done, *([self._total] if self._total else [])]
        counted = " of ".join(tqdm.format_sizeof(n) if self._scale else f"{n:,}" for n in counts)
        line = f"{self._what}: {counted} {_to_unit(counts[-1], self._unit)}"
        began, before = self._first or (now, 0)  # before that, programs were compiled and workers started
        if now == began:
            return line
        rate = (self._done - before) / (now - began)
        line = f"{line}, {tqdm.format_sizeof(rate)}/s"
        remaining = self._total - self._done  # below 0 where nobody knows the total
        return (
            f"{line}, about {tqdm.format_interval(remaining / rate)} left" if remaining > 0 < rate else line
        )

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()


def _to_unit(count: int, unit: str) -> str:
    """The singular of a unit behind a 1."""
    return unit.removesuffix("s") if count == 1 else unit


def _is_quiet() -> bool:
    """Whether the user is told of warnings alone; the log file of a run still hears all."""
    told = [handler.level for handler in log.handlers if getattr(handler, "stream", None) is sys.stderr]
    return max([log.level, *told]) > logging.INFO


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
