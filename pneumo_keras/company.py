"""Processes that train together: how they meet, what they tell each other, and how they part.

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
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pneumo_keras import BACKEND
from pneumo_keras.errors import BackendError, PneumoError, SettingsError, TrainingError
from pneumo_keras.notes import Notes
from pneumo_keras.place import Place
from pneumo_keras.stopping import Stopped, check_stop, defer_stop, find_signal, raise_signal

JOIN_SECONDS = 300  # until all processes must be there: a cluster starts them one after the other
LOST_SECONDS = 30  # without a sign of life, after which a process is lost
PART_SECONDS = 60  # for all to come to the end
LINGER_SECONDS = 3  # of the first one, whose end ends the others, for them to have their own say
LISTEN_SECONDS = 1.0

# Notes: what is trained, the end of the first process, what others ask of it, at which tick all stop.
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
        self._ticks, self._asked, self._fitting, self._parted = 0, False, False, False

    def hear(self, key: str) -> bytes:
        """Waits for a note.

        A signal that comes meanwhile is handed to the first process, which ends them all.

        Raises:
            Stopped: Somebody asked one of the processes to stop.
            TrainingError: Another process came to an end.
        """
        with defer_stop():
            while (said := self._notes.read(key, LISTEN_SECONDS)) is None:
                self._check_others()
        return said

    def say(self, key: str, data: bytes) -> None:
        """Leaves a note for those that `hear` it."""
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

    def say_ready(self) -> None:
        """Tells the first process that this one has all that it needs."""
        self.say(f"ready/{self.rank}", b"")

    def await_ready(self) -> None:
        """Waits until all are ready for the fit.

        Raises:
            Stopped: Somebody asked one of the processes to stop.
            TrainingError: One of them came to an end.
        """
        for rank in range(1, self.count):
            self.hear(f"ready/{rank}")

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
    def fitting(self) -> Iterator[None]:
        """The part of a training in which no process can go on without the others."""
        self._fitting = True
        try:
            yield
        except Stopped:  # all agreed
            self._fitting = False
            raise
        except self._jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            # Whoever it was, JAX will find out and say.
            time.sleep(LOST_SECONDS * 1.5)
            raise TrainingError(
                "The connection to another process of the training broke. Go on with --resume. Received: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        self._fitting = False

    @contextlib.contextmanager
    def leading(self) -> Iterator[None]:
        """The work of the first process, which listens to what others ask while it works alone.

        Raises:
            TrainingError: Another process came to an end.
        """
        self._busy = threading.Event()
        listener = threading.Thread(target=self._listen, daemon=True, name="company")
        listener.start()
        try:
            with self._explained():
                yield
        except Stopped as stopped:
            self._notes.add(END, {"number": stopped.number})
            raise
        except PneumoError as error:
            self._notes.add(END, {"line": str(error)})
            raise
        finally:
            self.stop_listening()
            self.part()

    def stop_listening(self) -> None:
        """Before the first step of the fit, at which all agree by themselves."""
        self._busy.set()

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """The work of any other process."""
        try:
            yield
        except Stopped as stopped:
            self._notes.add(REQUEST, {"rank": self.rank, "number": stopped.number})
            raise
        except PneumoError as error:
            self._notes.add(REQUEST, {"rank": self.rank, "line": str(error)})
            raise
        finally:
            self.part()

    def part(self) -> None:
        """Leaves the others, once all do; at once where they cannot go on."""
        if self._fitting:
            time.sleep(0 if self.rank else LINGER_SECONDS)
        elif not self._parted:
            self._parted = True
            with contextlib.suppress(self._jax.errors.JaxRuntimeError):
                self._jax.distributed.shutdown()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """A stop may be what another process asked for, because it came to an end."""
        try:
            yield
        except Stopped:
            if "line" in (request := self._notes.find(REQUEST)):
                raise _to_error(f"Process {request['rank']} of the training", request) from None
            raise

    def _listen(self) -> None:
        while not self._busy.wait(LISTEN_SECONDS):
            if (request := self._notes.find(REQUEST)) and not find_signal():
                raise_signal(request.get("number", signal.SIGTERM))
                return

    def _check_others(self) -> None:
        """Raises what has ended another process, or this one."""
        if self.rank and find_signal():
            self._notes.add(REQUEST, {"rank": self.rank, "number": find_signal()})  # and wait for the answer
        elif not self.rank:
            check_stop()
        if end := self._notes.find(REQUEST if self.rank == 0 else END):
            if "number" in end:
                raise Stopped(end["number"])
            name = f"Process {end['rank']}" if self.rank == 0 else "The first process"
            raise _to_error(f"{name} of the training", end)


def _to_error(whose: str, end: dict[str, Any]) -> TrainingError:
    return TrainingError(f"{whose} came to an end: {end['line']}")


def join(place: Place) -> Company:
    """Waits for all processes of a training. JAX must not have been used before.

    Raises:
        SettingsError: Nobody says where the first process is.
        BackendError: Keras runs on another backend.
        TrainingError: They did not come together.
    """
    check_backend()
    jax = importlib.import_module("jax")
    # It would take SIGTERM for itself.
    jax.config.update("jax_enable_preemption_service", False)
    by_hand = place.coordinator is not None
    try:
        # In a thread, since whoever waits in there hears no signals.
        meeting = ThreadPoolExecutor(1).submit(
            jax.distributed.initialize,
            coordinator_address=place.coordinator,
            num_processes=place.processes or None,
            process_id=place.rank,
            cluster_detection_method="deactivate" if by_hand else None,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=LOST_SECONDS,
            shutdown_timeout_seconds=PART_SECONDS,
        )
        meeting.result()
    except ValueError as error:
        raise SettingsError(
            f"compute.processes={place.processes} needs compute.coordinator and compute.rank where neither "
            f"SLURM, Open MPI nor Kubernetes says them. Received: {error}"
        ) from error
    except (RuntimeError, OSError) as error:
        raise TrainingError(
            "The processes of the training did not meet. Name them by compute.processes, compute.coordinator "
            f"and compute.rank. Received: {' '.join(str(error).split())[:200]}"
        ) from error
    return Company(jax.process_index(), jax.process_count())


def check_backend() -> None:
    """Checks that the backend can join processes.

    Raises:
        BackendError: It cannot.
    """
    if BACKEND != "jax":
        raise BackendError(f"compute.processes needs KERAS_BACKEND=jax. Received: {BACKEND}")
