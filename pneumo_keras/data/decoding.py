"""Many image files decoded side by side, each in a process that can be stopped.

A decoder that hangs, or that takes its process with it, costs one image and no more.
"""

import concurrent.futures
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
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pneumo_keras.data.pictures import LIMITS, NOTE, OUT_OF_MEMORY, Limits, load_film, prepare_film
from pneumo_keras.errors import DataError

AHEAD = 8  # images under way for each worker
WATCH_SECONDS = 0.1  # between two looks at who is late
START_SECONDS = 120.0  # until a new process can decode, on a machine that is busy

TIMED_OUT = "it took more than"
ENDED = "the process that decoded it ended, twice: it may need more memory than there is"


@dataclass(frozen=True)
class DecodedFilm:
    """What came of a file.

    Attributes:
        path: Of the file, as it was named; "" where its content was given.
        image: The film as the classifier knows films; None where there is none.
        reason: Why there is none; "" where there is one.
        shape: Height and width of the film in the file, in pixels.
        shown: The same square of the film at a size to look at, if that was asked for.
        note: What to know of how the file was read, where it contradicts itself; "" if nothing.
    """

    path: str
    image: UInt8[np.ndarray, "size size"] | None
    reason: str = ""
    shape: tuple[int, int] = (0, 0)
    shown: UInt8[np.ndarray, "edge edge"] | None = None
    note: str = ""


Future = concurrent.futures.Future[DecodedFilm]


class Decoders:
    """Processes that decode, until the end of the `with` block.

    Each has one file at a time, so that it is known which file a process had that ended or was stopped. When
    it ended, that may be for the memory that its neighbours took: its file is decoded once more, alone.

    Attributes:
        size: Height and width of the films that the classifier knows, in pixels.
        shown: Height and width to look at, at most; 0 where nobody looks.
        limits: What a file may cost.
        workers: How many processes.
    """

    def __init__(
        self, size: int, *, shown: int = 0, workers: int | None = None, limits: Limits = LIMITS
    ) -> None:
        self.size, self.shown, self.limits = size, shown, limits
        self.workers = workers or count_cores()
        task = _Task(decode_file, size, limits, shown)
        self._processes = [_DecodingProcess(task) for _ in range(self.workers)]
        self._idle, self._turns = deque(self._processes), _Turns()
        self._threads = concurrent.futures.ThreadPoolExecutor(
            self.workers, "decoder", initializer=_block_interrupts
        )
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="decoders").start()

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._closed.set()
        for process in self._processes:
            process.close()
        self._threads.shutdown()

    def submit(self, source: str | bytes) -> Future:
        """Begins with a file: its path, or all that it holds.

        Waiting for it raises DataError where no process can be started.
        """
        return self._threads.submit(self._decode, source)

    def decode(self, paths: Iterable[str]) -> Generator[DecodedFilm, None, None]:
        """Images in the order of their paths, decoded ahead of time; only a few are held.

        Raises:
            DataError: No process can be started.
        """
        waiting: deque[Future] = deque()
        for path in paths:
            waiting.append(self.submit(path))
            if len(waiting) > AHEAD * self.workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _decode(self, source: str | bytes) -> DecodedFilm:
        path = source if isinstance(source, str) else ""
        try:
            return self._decode_or_retry(source)
        except TimeoutError:
            return DecodedFilm(path, None, reason=f"{TIMED_OUT} {self.limits.seconds:g} s to decode")
        except _EndedError as error:
            if error.before_start:
                raise DataError(f"No process that decodes images can be started: {error}") from error
            return DecodedFilm(path, None, reason=ENDED)

    def _decode_or_retry(self, source: str | bytes) -> DecodedFilm:
        process = self._idle.pop()
        try:
            with contextlib.suppress(_EndedError), self._turns.beside_others():
                return process.decode(source)
            with self._turns.alone():
                return process.decode(source)
        finally:
            self._idle.append(process)

    def _watch(self) -> None:
        while not self._closed.wait(WATCH_SECONDS):
            for process in self._processes:
                process.stop_if_late()


def decode_films(
    paths: Iterable[str], *, size: int, shown: int = 0, workers: int | None = None
) -> Generator[DecodedFilm, None, None]:
    """Films in the order of their paths, by processes of their own; see `Decoders`."""
    with Decoders(size, shown=shown, workers=workers) as decoders:
        yield from decoders.decode(paths)


def decode_file(source: str | bytes, size: int, limits: Limits = LIMITS, shown: int = 0) -> DecodedFilm:
    """What one file holds; never raises for what it holds.

    Args:
        source: Path of the file, or all that it holds.
        size: Height and width of the films that the classifier knows, in pixels.
        limits: What the file may cost.
        shown: Height and width to look at, at most; 0 where nobody looks.
    """
    path = source if isinstance(source, str) else ""
    try:
        film = load_film(Path(source) if isinstance(source, str) else source, limits)
        seen = prepare_film(film, min(shown, *film.size)) if shown else None
        return DecodedFilm(
            path,
            prepare_film(film, size),
            shape=(film.height, film.width),
            shown=seen,
            note=film.info.get(NOTE, ""),
        )
    except (DataError, MemoryError) as error:
        return DecodedFilm(path, None, reason=str(error) or OUT_OF_MEMORY)


def count_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def may_pass(reason: str) -> bool:
    """Whether an image that was not decoded for this reason may be decoded another time."""
    return reason.startswith((TIMED_OUT, ENDED, OUT_OF_MEMORY))


class _EndedError(Exception):
    """A process ended before it had an answer."""

    def __init__(self, reason: str = "", *, before_start: bool = False) -> None:
        super().__init__(reason)
        self.before_start = before_start


class _Turns:
    """Who decodes beside others, and who alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy, self._loners = 0, 0

    @contextlib.contextmanager
    def beside_others(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._loners)
            self._busy += 1
        try:
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._loners += 1
            self._changed.wait_for(lambda: not self._busy)
            self._busy += 1
        try:
            yield
        finally:
            self._leave(loners=1)

    def _leave(self, loners: int = 0) -> None:
        with self._changed:
            self._busy -= 1
            self._loners -= loners
            self._changed.notify_all()


@dataclass(frozen=True)
class _Task:
    """What a process does with each file: `decode_file`, and what it is told beside the file."""

    decode: Callable[..., DecodedFilm]
    size: int
    limits: Limits
    shown: int

    def __call__(self, source: str | bytes) -> DecodedFilm:
        return self.decode(source, self.size, self.limits, self.shown)


class _DecodingProcess:
    """A process that decodes one file after the other, and is replaced when it has ended."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._process: Any = None
        self._link: Any = None
        self._deadline = math.inf
        self._lock, self._closed = threading.Lock(), False

    def decode(self, source: str | bytes) -> DecodedFilm:
        """What a file holds. The limit of time counts from when it is handed over.

        Raises:
            TimeoutError: It took too long.
            _EndedError: The process ended, or none could be started.
        """
        if self._process is None or not self._process.is_alive():
            self._start()
        return self._ask(source, self._task.limits.seconds)

    def stop_if_late(self) -> None:
        """From another thread: whoever waits for it learns that it ended."""
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
                    raise _EndedError
                self._link, theirs = context.Pipe()
                with theirs:
                    self._process = context.Process(target=_serve, args=(theirs, self._task), daemon=True)
                    self._process.start()
            self._ask(None, START_SECONDS)
        except (OSError, _EndedError) as error:
            raise _EndedError(str(error), before_start=True) from error

    def _ask(self, source: str | bytes | None, seconds: float) -> Any:
        """What it answers: None when it is ready, then to each file what came of it."""
        deadline = self._deadline = time.monotonic() + seconds
        try:
            if source is not None:
                self._link.send(source)
            return self._link.recv()
        except (EOFError, OSError) as error:
            self._process.kill()
            self._process.join()
            if time.monotonic() >= deadline:
                raise TimeoutError(f"it took more than {seconds:g} s") from error
            raise _EndedError(f"it ended with status {self._process.exitcode}") from error
        finally:
            self._deadline = math.inf


def _serve(link: Connection, task: _Task) -> None:
    """In the process, until the other side is gone, or there is no memory even for a question."""
    _settle(task.limits.memory)
    with contextlib.suppress(EOFError, OSError, MemoryError):
        link.send(None)
        while True:
            link.send(task(link.recv()))


def _block_interrupts() -> None:
    """In a thread, and in all processes that it starts: Ctrl-C is for the one that reads their answers."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


def _settle(memory: int) -> None:
    """In a worker: decoders say nothing beside their reason, and none takes the memory of the machine."""
    warnings.simplefilter("ignore")
    logging.disable()
    if sys.platform == "linux":  # others know no such limit, or do not keep it
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = memory if most == resource.RLIM_INFINITY else min(memory, most)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, most))
