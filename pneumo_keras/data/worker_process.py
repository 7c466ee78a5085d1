"""A process that does one piece of work after the other, and can be stopped whatever it does."""

import contextlib
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

STDERR = 2
STARTS = 4  # in a row that may fail: what ends processes when memory is short ends new ones, too
START_SECONDS = 120.0  # until a new process is ready, on a machine that is busy


class EndedError(Exception):
    """A process ended before it had an answer.

    Attributes:
        before_start: Whether it ended before it was ready to be asked.
    """

    def __init__(self, reason: str = "", *, before_start: bool = False) -> None:
        super().__init__(reason)
        self.before_start = before_start


class WorkerProcess:
    """A process that is asked one thing after the other, and is replaced when it has ended.

    Attributes:
        work: What it makes of a question; never raises. Must be known by its name in another process.
        memory: Of the process, in bytes, where the system keeps such a limit.
    """

    def __init__(self, work: Callable[[Any], Any], *, memory: int) -> None:
        self.work, self.memory = work, memory
        self._process: Any = None
        self._link: Any = None
        self._deadline = math.inf
        self._lock, self._closed = threading.Lock(), False

    def ask(self, question: Any, seconds: float) -> Any:
        """The answer. The limit of time counts from when the question is handed over.

        Raises:
            TimeoutError: It took too long. `stop_if_late`, called now and then, keeps the time.
            EndedError: The process ended, or none could be started.
        """
        for left in reversed(range(STARTS)):
            if self._process is not None and self._process.is_alive():
                break
            try:
                self._start()
            except EndedError:
                if not left or self._closed:
                    raise
        return self._exchange(question, seconds)

    def stop_if_late(self) -> None:
        """From another thread: who waits for an answer learns that there is none."""
        if time.monotonic() >= self._deadline:
            self._process.kill()

    def close(self) -> None:
        """From another thread: ends it, and starts no other one."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
                self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # to fork where JAX has threads may hang
        try:
            with self._lock:
                if self._closed:
                    raise EndedError
                self._link, theirs = context.Pipe()
                with theirs:
                    process = context.Process(
                        target=_serve, args=(theirs, self.work, self.memory), daemon=True
                    )
                    process.start()
                self._process = process
            self._exchange(None, START_SECONDS)
        except (OSError, EndedError) as error:
            raise EndedError(str(error), before_start=True) from error

    def _exchange(self, question: Any, seconds: float) -> Any:
        """Asks nothing of a process that has begun, and hears when it is ready."""
        deadline = self._deadline = time.monotonic() + seconds
        try:
            if question is not None:
                self._link.send(question)
            return self._link.recv()
        except (EOFError, OSError) as error:
            self._process.kill()
            self._process.join()
            if time.monotonic() >= deadline:
                raise TimeoutError(f"it took more than {seconds:g} s") from error
            raise EndedError(f"it ended with status {self._process.exitcode}") from error
        finally:
            self._deadline = math.inf


def block_interrupts() -> None:
    """In a thread, and in all processes that it starts: Ctrl-C is for the one that waits for answers."""
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # which lets them through where it is started
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


def _serve(link: Connection, work: Callable[[Any], Any], memory: int) -> None:
    """In the process, until the other side is gone, or there is no memory even for a question."""
    _settle(memory)
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDERR)  # codecs in C speak there, whatever they are told
    with contextlib.suppress(EOFError, OSError, MemoryError):
        link.send(None)
        while True:
            link.send(work(link.recv()))


def _settle(memory: int) -> None:
    """Says nothing beside answers, and does not take the memory of the machine."""
    warnings.simplefilter("ignore")
    logging.disable()
    if sys.platform == "linux":  # others know no such limit, or do not keep it
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = memory if most == resource.RLIM_INFINITY else min(memory, most)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, most))
