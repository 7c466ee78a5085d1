"""How long the frozen network will be busy: said once, as soon as its rate is known."""

import logging
import time

from tqdm import tqdm

from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

SECONDS = 10.0  # of work, after which the rate is known
WORTH_TELLING = 60.0  # seconds that are left


class Forecast:
    """Counts passages of images through the network, in all views of a job."""

    def __init__(self) -> None:
        self._left = self._done = 0
        self._started: float | None = None
        self._told = False

    def expect(self, passages: int) -> None:
        """Says how many passages are due, before the first."""
        self._left = passages
        if passages:
            log.info("To pass the network: %s, each view counted", to_amount(passages, "image"))

    def advance(self, count: int) -> None:
        """Counts passages that are done; the network is compiled in the first of them."""
        now = time.monotonic()
        self._left -= count
        if self._started is None:
            self._started = now
            return
        self._done += count
        seconds = now - self._started
        rate = self._done / seconds if seconds else 0.0
        if self._told or seconds < SECONDS or self._left < rate * WORTH_TELLING:
            return
        self._told = True
        left = tqdm.format_interval(self._left / rate)
        log.info("The network takes %.1f images/s: about %s for all that are left", rate, left)
