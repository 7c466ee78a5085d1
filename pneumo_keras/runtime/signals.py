"""Signals to stop, whatever Python is executing when they come."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESEND_SECONDS = 0.05  # until a signal that came inside a callback is sent once more


class Stopped(KeyboardInterrupt):
    """This process was asked to stop.

    Attributes:
        number: Number of the signal.
        next_step: How to continue later; "" where there is nothing to continue.
    """

    def __init__(self, number: int, next_step: str = "") -> None:
        super().__init__()
        self.number, self.next_step = number, next_step


class _State:
    received = 0
    """The number of the first signal; 0 for none."""
    deferring = 0
    """How many parts of the work look for signals themselves, with `find_signal`."""


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raises `Stopped` inside the `with` block when SIGINT or SIGTERM comes.

    An exception that Python raises inside a callback of the garbage collector or a finaliser is lost. So a
    signal is also kept for `find_signal`. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.received = 0
    before = {number: signal.signal(number, _receive) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.received = 0


@contextmanager
def restore_stopped() -> Iterator[None]:
    """Raises `Stopped` where the compiled part of a library raises KeyboardInterrupt for a signal."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, Stopped):
            raise
        raise Stopped(find_signal() or signal.SIGINT) from error


@contextmanager
def defer_stop() -> Iterator[None]:
    """Lets the work inside finish its batch: it checks for the first signal itself, a second one stops it."""
    _State.deferring += 1
    try:
        yield
    finally:
        _State.deferring -= 1


def find_signal() -> int:
    """The number of the first signal that has come; 0 for none."""
    return _State.received


def check_stop() -> None:
    """Raises `Stopped` if a signal has come and was lost; not where the work looks for it itself."""
    if _State.received and not _State.deferring:
        raise Stopped(_State.received)


def _receive(number: int, frame: FrameType | None) -> None:
    first = not _State.received
    _State.received = _State.received or number
    if first and _State.deferring:
        return
    if _collects_garbage(frame):
        timer = threading.Timer(RESEND_SECONDS, os.kill, (os.getpid(), number))
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
