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

from pneumo_keras.data.pictures import LIMITS, Limits, load_film, prepare_film
from pneumo_keras.errors import DataError

AHEAD = 8  # films under way for each worker
STOPPED = (concurrent.futures.TimeoutError, pebble.ProcessExpired)
"""What waiting for a process raises that was stopped, or ended by itself."""

Future = concurrent.futures.Future[Any]  # of a DecodedFilm: pebble's own class says no more


@dataclass(frozen=True)
class DecodedFilm:
    """What came of a file.

    Attributes:
        path: Of the file, as it was named; "" where its content was given.
        image: The film as the classifier knows films; None where there is none.
        reason: Why there is none; "" where there is one.
        shape: Height and width of the film in the file, in pixels.
        shown: The same square of the film at a size to look at, if that was asked for.
    """

    path: str
    image: UInt8[np.ndarray, "size size"] | None
    reason: str = ""
    shape: tuple[int, int] = (0, 0)
    shown: UInt8[np.ndarray, "edge edge"] | None = None


def open_pool(limits: Limits, workers: int | None = None) -> pebble.ProcessPool:
    """Processes that decode, one a core if no number is given. To be stopped by who opened it."""
    # Spawned: to fork a process in which JAX has threads may hang.
    context = multiprocessing.get_context("spawn")
    count = workers or os.cpu_count() or 1
    return pebble.ProcessPool(count, initializer=_settle, initargs=(limits.memory,), context=context)


def decode_films(
    paths: Iterable[str],
    *,
    size: int,
    shown: int = 0,
    workers: int | None = None,
    limits: Limits = LIMITS,
) -> Generator[DecodedFilm, None, None]:
    """Films in the order of their paths, decoded ahead of time; only a few are held.

    Args:
        paths: Of the files, drawn as they are needed.
        size: Height and width of the films that the classifier knows, in pixels.
        shown: Height and width to look at, at most; 0 where nobody looks.
        workers: Processes; one a core if not given.
        limits: What a file may cost.
    """
    pool, ahead = open_pool(limits, workers), AHEAD * (workers or os.cpu_count() or 1)
    waiting: deque[tuple[str, Future]] = deque()
    try:
        for path in paths:
            arguments = path, size, limits, shown
            waiting.append((path, pool.schedule(decode_file, arguments, timeout=limits.seconds)))
            if len(waiting) > ahead:
                yield _wait(*waiting.popleft(), limits)
        while waiting:
            yield _wait(*waiting.popleft(), limits)
    finally:
        pool.stop()
        pool.join()


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
        return DecodedFilm(path, prepare_film(film, size), shape=(film.height, film.width), shown=seen)
    except (DataError, MemoryError) as error:
        return DecodedFilm(path, None, reason=str(error) or "it takes too much memory to decode")


def to_reason(error: Exception, limits: Limits) -> str:
    """Why a process that decoded a file was stopped, or ended.

    Args:
        error: One of `STOPPED`.
        limits: What the file might cost.
    """
    if isinstance(error, pebble.ProcessExpired):
        return "its decoder crashed"
    return f"it took more than {limits.seconds:g} s to decode"


def _wait(path: str, future: Future, limits: Limits) -> DecodedFilm:
    try:
        return future.result()
    except STOPPED as error:
        return DecodedFilm(path, None, reason=to_reason(error, limits))


def _settle(memory: int) -> None:
    """In a worker: decoders say nothing beside their reason, and none takes the memory of the machine."""
    warnings.simplefilter("ignore")
    logging.disable()
    if sys.platform == "linux":  # others know no such limit, or do not keep it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
