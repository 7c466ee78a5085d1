"""Processes that train together: what they tell each other, and how they part.

JAX joins them, moves gradients between them and ends those whose companions are lost. The first one works
alone at times, for up to hours; what they tell each other meanwhile goes by the notes of JAX's
coordination service, which wait as long as it takes.
"""

import contextlib
import importlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from pneumo_keras.distributed.key_value_store import Notes
from pneumo_keras.errors import PneumoError, TrainingError
from pneumo_keras.runtime.signals import Stopped, check_stop, defer_stop, find_signal, raise_signal

LOST_SECONDS = 30  # without a sign of life, after which a process is lost
PART_SECONDS = 60  # for all to come to the end
LINGER_SECONDS = 3  # of the first one, whose end ends the others, for them to have their own say
LISTEN_SECONDS = 1.0

# Notes: what is trained, the end of the first process, that of others, at which tick all stop.
TASK, END, REQUEST, STOP = "task", "end", "request", "stop"


class Company:
    """The processes of one training.

    Attributes:
        rank: Of this one. The first one, 0, writes the run.
        count: Of all.
        stopping: Whether all will stop soon, see `find_stop`.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count, self.stopping = rank, count, False
        self._notes = Notes()
        self._jax = importlib.import_module("jax")
        self._mine, self._theirs = (REQUEST, END) if rank else (END, REQUEST)
        self._ticks, self._asked, self._tied, self._parted = 0, False, False, False
        self._alone, self._ended = True, threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True, name="company")

    def hear(self, key: str) -> bytes:
        """Waits for a note.

        A signal that comes meanwhile is handed to the first process, which ends them all.

        Raises:
            Stopped: Somebody asked one of the processes to stop.
            TrainingError: Another process came to an end.
        """
        with defer_stop(), self._looking(), self._connected():
            while (said := self._notes.read(key, LISTEN_SECONDS)) is None:
                self._check_others()
        return said

    def say(self, key: str, data: bytes) -> None:
        """Leaves a note for those that `hear` it.

        Raises:
            TrainingError: Another process came to an end.
        """
        with self._connected():
            self._notes.write(key, data)

    def say_task(self, task: dict[str, Any]) -> None:
        """Tells all others what is trained, so that they can compare it with theirs."""
        self.say(TASK, json.dumps(task).encode())

    def say_nothing_to_do(self) -> None:
        """Tells all others to go home."""
        self.say(TASK, b"")

    def hear_task(self) -> dict[str, Any] | None:
        """What the first process said to train; None for nothing."""
        task = self.hear(TASK)
        return json.loads(task) if task else None

    def check_same(self, what: str, value: str) -> None:
        """Checks in the first process that all have the same.

        Args:
            what: In words.
            value: Of this one.

        Raises:
            TrainingError: They have not.
        """
        if self.rank:
            self.say(f"{what}/{self.rank}", value.encode())
            return
        others = {rank: self.hear(f"{what}/{rank}").decode() for rank in range(1, self.count)}
        odd = [str(rank) for rank, other in others.items() if other != value]
        if odd:
            raise TrainingError(
                f"All processes must end with the same {what}. Received: others from process "
                f"{', '.join(odd)}. Check their memory and their versions of JAX, and train again"
            )

    def find_stop(self) -> int:
        """The signal that ends the fit here, at the same tick in all processes; 0 to go on.

        To be called by all of them equally often, with a step that all take part in between two calls; one
        may be missing. So nobody is two calls ahead of who wrote the note.
        """
        self._ticks += 1
        if find_signal() and not self._asked:
            self._asked = True
            self._notes.add(STOP, {"tick": self._ticks + 2, "number": find_signal()})
        stop = self._notes.find(STOP)
        self.stopping = bool(stop)
        return stop["number"] if stop and self._ticks >= stop["tick"] else 0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """The part of a process in a training, which listens to the others while it works alone.

        Raises:
            Stopped: Somebody asked one of the processes to stop.
            TrainingError: Another process came to an end.
        """
        self._listener.start()
        try:
            with self._explained():
                yield
        except Stopped as stopped:
            self._notes.add(self._mine, {"rank": self.rank, "number": stopped.number})
            raise
        except Exception as error:
            self._notes.add(self._mine, {"rank": self.rank, "line": _to_line(error)})
            raise
        finally:
            self.part()

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """The part of a training in which no process can go on without the others; begins once all are there.

        A signal is left to `find_stop`.

        Raises:
            Stopped: Somebody asked one of the processes to stop.
            TrainingError: Another process came to an end.
        """
        with defer_stop(), self._looking():
            self._meet()
            self._tied = True
            with self._connected():
                try:
                    yield
                except Stopped:  # all agreed
                    self._tied = False
                    raise
            self._tied = False

    def part(self) -> None:
        """Leaves the others, once all do; at once where they cannot go on."""
        with defer_stop():  # what is heard just now comes too late
            self._ended.set()
            if self._listener.is_alive():
                self._listener.join()
        if self._tied:
            time.sleep(0 if self.rank else LINGER_SECONDS)
        elif not self._parted:
            self._parted = True
            with contextlib.suppress(self._jax.errors.JaxRuntimeError):
                # Where somebody is missing, JAX would end this process before it has said what happened.
                if self._await_end():
                    self._jax.distributed.shutdown()

    def _meet(self) -> None:
        if self.rank:
            self.say(f"ready/{self.rank}", b"")
            return
        for rank in range(1, self.count):
            self.hear(f"ready/{rank}")

    def _await_end(self) -> bool:
        """Whether all processes came to their end in time."""
        until = time.monotonic() + PART_SECONDS
        self._notes.write(f"leaving/{self.rank}", b"")
        leaving = 0
        while leaving < self.count and time.monotonic() < until:
            leaving += self._notes.read(f"leaving/{leaving}", LISTEN_SECONDS) is not None
        return leaving == self.count

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """A stop may be what another process asked for, because it came to an end."""
        try:
            yield
        except Stopped:
            if "line" in (end := self._notes.find(self._theirs)):
                raise _to_error(end) from None
            raise

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Where the connection breaks, whoever broke it has said why, or JAX will find out and say."""
        try:
            yield
        except self._jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            self._tied = True
            until = time.monotonic() + LOST_SECONDS * 1.5
            while time.monotonic() < until:
                if "line" in (end := self._notes.find(self._theirs)):
                    raise _to_error(end) from error
                time.sleep(LISTEN_SECONDS)
            raise TrainingError(
                "The connection to another process of the training broke. Go on with --resume. Received: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        """Inside, this process looks by itself for what others say: no signal needs to tell it."""
        alone, self._alone = self._alone, False
        yield
        self._alone = alone

    def _listen(self) -> None:
        while not self._ended.wait(LISTEN_SECONDS):
            if self._alone and (end := self._notes.find(self._theirs)) and not find_signal():
                raise_signal(end.get("number", signal.SIGTERM))
                return

    def _check_others(self) -> None:
        """Raises what has ended another process, or this one."""
        if self.rank and find_signal():
            self._notes.add(REQUEST, {"rank": self.rank, "number": find_signal()})  # and wait for the answer
        elif not self.rank:
            check_stop()
        if end := self._notes.find(self._theirs):
            raise Stopped(end["number"]) if "number" in end else _to_error(end)


def _to_error(end: dict[str, Any]) -> TrainingError:
    whose = f"Process {end['rank']}" if end["rank"] else "The first process"
    return TrainingError(f"{whose} of the training came to an end: {end['line']}")


def _to_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, PneumoError) else f"{type(error).__name__}: {text[:200]}"
