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

import numpy as np
import pebble
from jaxtyping import UInt8

from pneumo_keras.data.pictures import LIMITS, Limits, load_film, prepare_film
from pneumo_keras.errors import DataError

AHEAD = 8  # films under way for each worker


@dataclass(frozen=True)
class DecodedFilm:
    """What came of a file.

    Attributes:
        path: Of the file, as it was named.
        image: The film as the classifier knows films; None where there is none.
        reason: Why there is none; "" where there is one.
        shape: Height and width of the film in the file, in pixels.
    """

    path: str
    image: UInt8[np.ndarray, "size size"] | None
    reason: str = ""
    shape: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ShownFilm:
    """A film as the classifier knows films, and as people look at it.

    Attributes:
        image: As the classifier knows it.
        shown: The same square at a size to look at.
        shape: Height and width of the film in the file, in pixels.
    """

    image: UInt8[np.ndarray, "size size"]
    shown: UInt8[np.ndarray, "edge edge"]
    shape: tuple[int, int]


def open_pool(limits: Limits, workers: int | None = None) -> pebble.ProcessPool:
    """Processes that decode, one a core if no number is given. To be stopped by who opened it."""
    # Spawned: to fork a process in which JAX has threads may hang.
    context = multiprocessing.get_context("spawn")
    count = workers or os.cpu_count() or 1
    return pebble.ProcessPool(count, initializer=_settle, initargs=(limits.memory,), context=context)


def decode_films(
    paths: Iterable[str], *, size: int, workers: int | None = None, limits: Limits = LIMITS
) -> Generator[DecodedFilm, None, None]:
    """Films in the order of their paths, decoded ahead of time; only a few are held.

    Args:
        paths: Of the files, drawn as they are needed.
        size: Height and width wanted, in pixels.
        workers: Processes; one a core if not given.
        limits: What a file may cost.
    """
    pool, ahead = open_pool(limits, workers), AHEAD * (workers or os.cpu_count() or 1)
    waiting: deque[tuple[str, concurrent.futures.Future[DecodedFilm]]] = deque()
    try:
        for path in paths:
            waiting.append((path, pool.schedule(decode_file, (path, size, limits), timeout=limits.seconds)))
            if len(waiting) > ahead:
                yield _wait(*waiting.popleft(), limits)
        while waiting:
            yield _wait(*waiting.popleft(), limits)
    finally:
        pool.stop()
        pool.join()


def decode_file(path: str, size: int, limits: Limits) -> DecodedFilm:
    """What one file holds; never raises for what it holds."""
    try:
        film = load_film(Path(path), limits)
        return DecodedFilm(path, prepare_film(film, size), shape=(film.height, film.width))
    except (DataError, MemoryError) as error:
        return DecodedFilm(path, None, reason=str(error) or "it takes too much memory to decode")


def show_film(content: bytes, size: int, shown: int, limits: Limits) -> ShownFilm:
    """What the content of a file holds.

    Args:
        content: All of it.
        size: Height and width of the films that the classifier knows, in pixels.
        shown: Height and width to look at, at most.
        limits: What the file may cost.

    Raises:
        DataError: There is no film in it. Says why.
    """
    film = load_film(content, limits)
    edge = min(shown, *film.size)
    return ShownFilm(prepare_film(film, size), prepare_film(film, edge), (film.height, film.width))


def _wait(path: str, future: "concurrent.futures.Future[DecodedFilm]", limits: Limits) -> DecodedFilm:
    try:
        return future.result()
    except concurrent.futures.TimeoutError:
        return DecodedFilm(path, None, reason=f"it took more than {limits.seconds:g} s to decode")
    except pebble.ProcessExpired:
        return DecodedFilm(path, None, reason="its decoder crashed")


def _settle(memory: int) -> None:
    """In a worker: decoders say nothing beside their reason, and none takes the memory of the machine."""
    warnings.simplefilter("ignore")
    logging.disable()
    if sys.platform == "linux":  # others know no such limit, or do not keep it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
