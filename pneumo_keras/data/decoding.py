"""Many image files decoded side by side, each in a process that can be stopped.

A decoder that hangs, or that takes its process with it, costs one image and no more.
"""

import concurrent.futures
import contextlib
import functools
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.pictures import LIMITS, NOTE, OUT_OF_MEMORY, Limits, load_image
from pneumo_keras.data.worker_process import EndedError, WorkerProcess, block_interrupts
from pneumo_keras.errors import DataError

AHEAD = 8  # images under way for each worker
WATCH_SECONDS = 0.1  # between two looks at who is late

TIMED_OUT = "it took more than"
ENDED = "the process that decoded it ended, twice: it may need more memory than there is"


@dataclass(frozen=True)
class DecodedImage:
    """What came of a file.

    Attributes:
        path: Of the file, as it was named; "" where its content was given.
        image: The image as the classifier knows images; None where there is none.
        reason: Why there is none; "" where there is one.
        shape: Height and width of the image in the file, in pixels.
        shown: The same square of the image at a size to look at, if that was asked for.
        note: What to know of how the file was read, where it contradicts itself; "" if nothing.
    """

    path: str
    image: UInt8[np.ndarray, "size size"] | None
    reason: str = ""
    shape: tuple[int, int] = (0, 0)
    shown: UInt8[np.ndarray, "edge edge"] | None = None
    note: str = ""


Future = concurrent.futures.Future[DecodedImage]


class Decoders:
    """Processes that decode, until the end of the `with` block.

    Each has one file at a time, so that it is known which file a process had that ended or was stopped. When
    it ended, that may be for the memory that its neighbours took: its file is decoded once more, alone.

    Attributes:
        preparation: Of the images that the classifier was trained on.
        shown: Height and width to look at, at most; 0 where nobody looks.
        limits: What a file may cost.
        workers: How many processes.
    """

    def __init__(
        self,
        preparation: Preparation,
        *,
        shown: int = 0,
        workers: int | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self.preparation, self.shown, self.limits = preparation, shown, limits
        self.workers = workers or count_cores()
        work = functools.partial(decode_file, preparation=preparation, limits=limits, shown=shown)
        self._processes = [WorkerProcess(work, memory=limits.memory) for _ in range(self.workers)]
        self._idle, self._turns = deque(self._processes), _Turns()
        self._threads = concurrent.futures.ThreadPoolExecutor(
            self.workers, "decoder", initializer=block_interrupts
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

    def decode(self, paths: Iterable[str]) -> Generator[DecodedImage, None, None]:
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

    def _decode(self, source: str | bytes) -> DecodedImage:
        path = source if isinstance(source, str) else ""
        try:
            return self._decode_or_retry(source)
        except TimeoutError:
            return DecodedImage(path, None, reason=f"{TIMED_OUT} {self.limits.seconds:g} s to decode")
        except EndedError as error:
            if error.before_start:
                raise DataError(f"No process that decodes images can be started: {error}") from error
            return DecodedImage(path, None, reason=ENDED)

    def _decode_or_retry(self, source: str | bytes) -> DecodedImage:
        process = self._idle.pop()
        try:
            with contextlib.suppress(EndedError), self._turns.beside_others():
                return process.ask(source, self.limits.seconds)
            with self._turns.alone():
                return process.ask(source, self.limits.seconds)
        finally:
            self._idle.append(process)

    def _watch(self) -> None:
        while not self._closed.wait(WATCH_SECONDS):
            for process in self._processes:
                process.stop_if_late()


def decode_images(
    paths: Iterable[str], *, preparation: Preparation, shown: int = 0, workers: int | None = None
) -> Generator[DecodedImage, None, None]:
    """Images in the order of their paths, by processes of their own; see `Decoders`."""
    with Decoders(preparation, shown=shown, workers=workers) as decoders:
        yield from decoders.decode(paths)


def decode_file(
    source: str | bytes, preparation: Preparation, limits: Limits = LIMITS, shown: int = 0
) -> DecodedImage:
    """What one file holds; never raises for what it holds.

    Args:
        source: Path of the file, or all that it holds.
        preparation: Of the images that the classifier was trained on.
        limits: What the file may cost.
        shown: Height and width to look at, at most; 0 where nobody looks.
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


def count_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def may_pass(reason: str) -> bool:
    """Whether an image that was not decoded for this reason may be decoded another time."""
    return reason.startswith((TIMED_OUT, ENDED, OUT_OF_MEMORY))


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
