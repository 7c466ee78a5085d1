"""Many picture files decoded side by side, each in a process that can be stopped.

A decoder that hangs, or that takes its process with it, costs one film and no more.
"""

import concurrent.futures
import logging
import multiprocessing
import os
import sys
import warnings
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pebble
from jaxtyping import UInt8

from pneumo_keras.data.pictures import LIMITS, NOTE, Limits, load_film, prepare_film
from pneumo_keras.errors import DataError

AHEAD = 8  # films under way for each worker

Future = concurrent.futures.Future[Any]  # of a DecodedFilm: pebble's own class says no more

STOPPED = (concurrent.futures.TimeoutError, pebble.ProcessExpired, RuntimeError)
"""What waiting for a process raises that was stopped, ended, or went with all others."""


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


class Decoders:
    """Processes that decode, until the end of the `with` block.

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
        self._pool, self._ended = self._open(), False

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._pool.stop()
        self._pool.join()

    def submit(self, source: str | bytes) -> Future:
        """Begins with a file: its path, or all that it holds. Waiting for it may raise `STOPPED`."""
        arguments = source, self.size, self.limits, self.shown
        try:
            return self._pool.schedule(decode_file, arguments, timeout=self.limits.seconds)
        except RuntimeError:  # somebody ended an idle process, and pebble gives up the others
            if self._ended:
                raise
            self._pool.stop()
            self._pool = self._open()
            return self._pool.schedule(decode_file, arguments, timeout=self.limits.seconds)

    def decode(self, paths: Iterable[str]) -> Generator[DecodedFilm, None, None]:
        """Films in the order of their paths, decoded ahead of time; only a few are held."""
        waiting: deque[tuple[str, Future]] = deque()
        for path in paths:
            waiting.append((path, self.submit(path)))
            if len(waiting) > AHEAD * self.workers:
                yield self._wait(*waiting.popleft())
        while waiting:
            yield self._wait(*waiting.popleft())

    def to_reason(self, error: Exception) -> str:
        """Why there is no film: one of `STOPPED` in words."""
        if isinstance(error, concurrent.futures.TimeoutError):
            return f"it took more than {self.limits.seconds:g} s to decode"
        return "its decoder crashed"

    def _wait(self, path: str, future: Future) -> DecodedFilm:
        try:
            return future.result()
        except STOPPED as error:
            return DecodedFilm(path, None, reason=self.to_reason(error))

    def _open(self) -> pebble.ProcessPool:
        # Spawned: to fork a process in which JAX has threads may hang.
        context = multiprocessing.get_context("spawn")
        return pebble.ProcessPool(
            self.workers, initializer=_settle, initargs=(self.limits.memory,), context=context
        )


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
        return DecodedFilm(path, None, reason=str(error) or "it takes too much memory to decode")


def count_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _settle(memory: int) -> None:
    """In a worker: decoders say nothing beside their reason, and none takes the memory of the machine."""
    warnings.simplefilter("ignore")
    logging.disable()
    if sys.platform == "linux":  # others know no such limit, or do not keep it
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = memory if most == resource.RLIM_INFINITY else min(memory, most)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, most))
