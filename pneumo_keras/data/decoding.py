"""Image files decoded in parallel, by processes: a decoder that hangs or crashes costs one image."""

import concurrent.futures
import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.kinds import NOTE, Limits
from pneumo_keras.data.pictures import LIMITS, OUT_OF_MEMORY, load_image
from pneumo_keras.errors import DataError

AHEAD = 8  # images submitted ahead for each worker
STARTS = 4  # attempts in a row: when memory is short, new processes are killed, too
START_SECONDS = 120.0  # until a new process is ready, on a machine that is busy
STDERR = 2

TIMED_OUT = "it took more than"
ENDED = "the process that decoded it ended, twice: it may need more memory than there is"


@dataclass(frozen=True)
class DecodedImage:
    """The result for a file.

    Attributes:
        path: Path of the file, as it was named; "" where its content was given.
        image: Prepared; None where the file cannot be decoded.
        reason: Why there is no image; "" where there is one.
        shape: Height and width of the upright image in the file, in pixels; square ones of a DICOM file.
        shown: The same square of the image at a size to look at, if wanted.
        note: How a file that contradicts itself was read; "" for any other.
    """

    path: str
    image: UInt8[np.ndarray, "size size"] | None
    reason: str = ""
    shape: tuple[int, int] = (0, 0)
    shown: UInt8[np.ndarray, "edge edge"] | None = None
    note: str = ""


Future = concurrent.futures.Future[DecodedImage]


def decode_file(
    source: str | bytes, preparation: Preparation, limits: Limits = LIMITS, shown: int = 0
) -> DecodedImage:
    """The image of a file; raises nothing for any content.

    Args:
        source: Path of the file, or its content.
        preparation: How the images were prepared that the classifier was trained on.
        limits: What the file may cost.
        shown: Greatest height and width of an image to look at; 0 for none.
    """
    path = source if isinstance(source, str) else ""
    try:
        image = load_image(Path(source) if isinstance(source, str) else source, limits)
        seen = prepare_image(image, Preparation(min(shown, *image.size))) if shown else None
        return DecodedImage(
            path,
            prepare_image(image, preparation),
            shape=(image.height, image.width),
            shown=seen,
            note=image.info.get(NOTE, ""),
        )
    except (DataError, MemoryError) as error:
        return DecodedImage(path, None, reason=str(error) or OUT_OF_MEMORY)


def decode_images(
    paths: Iterable[str], *, preparation: Preparation, shown: int = 0, workers: int | None = None
) -> Generator[DecodedImage, None, None]:
    """Images in the order of their paths; see `Decoders`."""
    with Decoders(preparation, shown=shown, workers=workers) as decoders:
        yield from decoders.decode(paths)


def is_transient(reason: str) -> bool:
    """Whether a file that was not decoded for this reason may be decoded another time."""
    return reason.startswith((TIMED_OUT, ENDED, OUT_OF_MEMORY))


def count_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Decoders:
    """Processes that decode, one file at a time each, until the end of the `with` block.

    A file whose process ended is decoded once more: other processes may have taken the memory.
    """

    def __init__(
        self,
        preparation: Preparation,
        *,
        shown: int = 0,
        workers: int | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        """Takes what `decode_file` takes, and the number of processes: one a core if not given."""
        self.workers, self._limits = workers or count_cores(), limits
        work = functools.partial(decode_file, preparation=preparation, limits=limits, shown=shown)
        self._processes = [_Worker(work, limits) for _ in range(self.workers)]
        self._idle = deque(self._processes)
        self._threads = concurrent.futures.ThreadPoolExecutor(
            self.workers, "decoder", initializer=_block_interrupts
        )

    def __enter__(self) -> "Decoders":
        for _ in self._processes:  # they start while the caller prepares to use their images
            self._threads.submit(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()
        self._threads.shutdown()

    def submit(self, source: str | bytes) -> Future:
        """Starts to decode a file, given by its path or content; the result may be a DataError, as below."""
        return self._threads.submit(self._decode, source)

    def decode(self, paths: Iterable[str]) -> Generator[DecodedImage, None, None]:
        """Images in the order of their paths, a few of them decoded ahead of time.

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

    def _start(self) -> None:
        process = self._idle.pop()
        try:
            process.start()
        finally:
            self._idle.append(process)

    def _decode(self, source: str | bytes) -> DecodedImage:
        path = source if isinstance(source, str) else ""
        process = self._idle.pop()
        try:
            with contextlib.suppress(_EndedError):
                return process.decode(source)
            return process.decode(source)
        except TimeoutError:
            return DecodedImage(path, None, reason=f"{TIMED_OUT} {self._limits.seconds:g} s to decode")
        except _EndedError:
            return DecodedImage(path, None, reason=ENDED)
        finally:
            self._idle.append(process)


class _EndedError(Exception):
    """A process ended before it answered."""


class _Worker:
    """A process that decodes one file after the other, and is replaced when it has ended."""

    def __init__(self, work: Callable[[str | bytes], DecodedImage], limits: Limits) -> None:
        self._work, self._limits = work, limits
        self._process: Any = None
        self._link: Any = None
        self._lock, self._closed = threading.Lock(), False

    def decode(self, source: str | bytes) -> DecodedImage:
        """The image of a file.

        Raises:
            TimeoutError: It took too long; the process was ended.
            _EndedError: The process ended.
            DataError: No process can be started.
        """
        self.start()
        try:
            self._link.send(source)
        except OSError as error:
            raise self._end() from error
        return self._receive(self._limits.seconds)

    def close(self) -> None:
        """Ends the process, and starts no other one; called from another thread."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
                self._process.join()

    def start(self) -> None:
        """Starts the process where it does not run; DataError where that is impossible."""
        if self._process is not None and self._process.is_alive():
            return
        for left in reversed(range(STARTS)):
            try:
                self._start_once()
                self._receive(START_SECONDS)  # it is ready
                return
            except (OSError, _EndedError) as error:
                if not left or self._closed:
                    raise DataError(f"No process that decodes images can be started: {error}") from error

    def _start_once(self) -> None:
        context = multiprocessing.get_context("spawn")  # to fork where JAX has threads may hang
        with self._lock:
            if self._closed:
                raise _EndedError
            self._link, theirs = context.Pipe()
            with theirs:
                process = context.Process(target=_serve, args=(theirs, self._work, self._limits), daemon=True)
                process.start()
            self._process = process

    def _receive(self, seconds: float) -> Any:
        try:
            if self._link.poll(seconds):
                return self._link.recv()
        except (EOFError, OSError) as error:
            raise self._end() from error
        self._end()
        raise TimeoutError(f"it took more than {seconds:g} s")

    def _end(self) -> _EndedError:
        self._process.kill()
        self._process.join()
        return _EndedError(f"it ended with status {self._process.exitcode}")


def _block_interrupts() -> None:
    """Leaves Ctrl-C to the main thread: not for this thread, nor for processes that it starts."""
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # which lets them through where it is started
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


def _serve(link: Connection, work: Callable[[str | bytes], DecodedImage], limits: Limits) -> None:
    """Runs in the process, until the other side is gone, or memory is too short even for a request."""
    warnings.simplefilter("ignore")
    logging.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDERR)  # codecs in C write there
    if sys.platform == "linux":  # others have no such limit, or ignore it
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = limits.memory if most == resource.RLIM_INFINITY else min(limits.memory, most)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, most))
    with contextlib.suppress(EOFError, OSError, MemoryError):
        link.send(None)
        while True:
            link.send(work(link.recv()))
