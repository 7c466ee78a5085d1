"""The log of a run, on disk."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pneumo_keras.errors import RunError
from pneumo_keras.storage.printable import PrintableFormatter

log = logging.getLogger("pneumo_keras")

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def write_log(path: Path) -> Iterator[None]:
    """Adds all that is said inside the `with` block to a file.

    Raises:
        RunError: It cannot be opened.
    """
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    handler.setFormatter(PrintableFormatter(LOG_FORMAT))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """A log that is let go where its disk is full: what matters meets the same disk and says so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (named by Python)
        pass
