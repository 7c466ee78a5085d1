"""Signals to stop: told to whoever works, wherever Python happens to be when they come."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STATUSES = tuple(128 + number for number in SIGNALS)  # of processes that they stopped
AGAIN = 0.05  # seconds until a signal that came at a bad moment is sent once more


class Stopped(KeyboardInterrupt):
    """Somebody asked this process to stop.

    Attributes:
        number: Of the signal.
        next_step: How to go on later; "" where nothing is left to go on with.
    """

    def __init__(self, number: int, next_step: str = "") -> None:
        super().__init__()
        self.number, self.next_step = number, next_step


class _Signals:
    """What has come so far, and who wants to be told in the middle of the work."""

    received = 0
    """The number of the first signal; 0 for none."""
    crashing = False
    """Whether a library would crash where Python takes itself down."""
    deferring = 0
    """How many parts of the work ask by themselves, with `check_stop`."""


@contextmanager
def heed_signals() -> Iterator[None]:
    """Raises `Stopped` inside the `with` block when SIGINT or SIGTERM comes.

    An exception that Python raises inside a callback of the garbage collector or a finaliser is lost. So a
    signal is also noted, for `check_stop`. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Signals.received = 0
    before = {number: signal.signal(number, _receive) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Signals.received = 0


@contextmanager
def keep_stopped() -> Iterator[None]:
    """Raises `Stopped` where a library that a signal meets in its compiled part raises KeyboardInterrupt."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, Stopped):
            raise
        raise Stopped(find_signal() or signal.SIGINT) from error


@contextmanager
def defer_stop() -> Iterator[None]:
    """Lets the work inside end its batch: a first signal is told by `check_stop` alone, a second at once."""
    _Signals.deferring += 1
    try:
        yield
    finally:
        _Signals.deferring -= 1


def is_stop_asked() -> bool:
    """Whether a signal has come."""
    return bool(_Signals.received)


def find_signal() -> int:
    """The number of the first signal that has come; 0 for none."""
    return _Signals.received


def raise_signal(number: int) -> None:
    """Asks this process to stop."""
    os.kill(os.getpid(), number)


def expect_crash() -> None:
    """Lets the process end without Python's taking itself down, where a library would crash then."""
    _Signals.crashing = True


def is_crash_expected() -> bool:
    """Whether somebody has said so."""
    return _Signals.crashing


def check_stop() -> None:
    """Raises `Stopped` if a signal has come."""
    if _Signals.received:
        raise Stopped(_Signals.received)


def check_lost_stop() -> None:
    """Raises `Stopped` if a signal has come and was lost; not where the work asks by itself."""
    if not _Signals.deferring:
        check_stop()


def _receive(number: int, frame: FrameType | None) -> None:
    first = not _Signals.received
    _Signals.received = _Signals.received or number
    if first and _Signals.deferring:
        return
    if _collects_garbage(frame):
        timer = threading.Timer(AGAIN, raise_signal, (number,))
        timer.daemon = True
        timer.start()
        return
    raise Stopped(number)


def _collects_garbage(frame: FrameType | None) -> bool:
    """Whether Python is inside a callback of its garbage collector, which swallows exceptions."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in callbacks:
            return True
        frame = frame.f_back
    return False
