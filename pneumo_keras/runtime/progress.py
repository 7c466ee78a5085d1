"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. On stderr."""

import io
import logging
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from pneumo_keras.runtime.signals import check_stop

log = logging.getLogger("pneumo_keras")

SECONDS_BETWEEN_LINES = 15.0
LONGEST = 32  # characters of the work, in front of a bar on a line of 80
tqdm.monitor_interval = 0  # or each bar would start a thread, and processes with threads should not be forked


class Progress:
    """Counts finished units of one piece of work and shows them."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def advance(self, count: int) -> None:
        """Adds finished units, and raises `Stopped` if a signal to stop has come."""
        check_stop()
        self._bar.update(count)


class _LogFile(io.StringIO):
    """Logs what is written to it, for a bar where there is no terminal."""

    def write(self, text: str) -> int:
        if line := " ".join(text.split()):
            log.info("%s", line)
        return len(text)


@contextmanager
def show_progress(
    what: str, total: int, unit: str, *, scale: bool = False, done: int = 0
) -> Iterator[Progress]:
    """Shows the progress of the work inside the `with` block, and about how long it will take.

    Args:
        what: The work.
        total: Units in all; 0 where it is unknown.
        unit: In the plural.
        scale: Whether to write 1.2M for 1,234,567.
        done: Units that an earlier attempt finished.
    """
    options: dict[str, Any]
    if sys.stderr.isatty() and not _is_quiet():
        what, options = textwrap.shorten(what, LONGEST, placeholder=" ..."), {"unit": f" {unit}"}
    else:
        counts = ["{n_fmt}", "{total_fmt}"] if scale else ["{n:,}", "{total:,}"]
        counted, left = (" of ".join(counts), ", about {remaining} left") if total else (counts[0], "")
        options = {
            "unit": "",
            "file": _LogFile(),
            "bar_format": f"{{desc}}: {counted} {unit}, {{rate_noinv_fmt}}{left}",
            "delay": SECONDS_BETWEEN_LINES,
            "mininterval": SECONDS_BETWEEN_LINES,
            "miniters": 1,
        }
    with tqdm(desc=what, total=total or None, initial=done, unit_scale=scale, leave=False, **options) as bar:
        yield Progress(bar)


@contextmanager
def clear_bars() -> Iterator[None]:
    """Takes bars off the terminal while a line is printed, which would be behind one otherwise."""
    with tqdm.external_write_mode():
        yield


def _is_quiet() -> bool:
    """Whether only warnings are shown to the user; the log file of a run still gets all lines."""
    shown = [handler.level for handler in log.handlers if getattr(handler, "stream", None) is sys.stderr]
    return max([log.level, *shown]) > logging.INFO
