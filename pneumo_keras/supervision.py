"""A process that watches over one of a training that several processes share, and has its last word.

JAX ends a process whose companions are lost from within, by a signal and with a page of what its libraries
know of it. So the work is done by a second process, whose libraries speak into a pipe, and the first one
says in one line what happened.
"""

import collections
import os
import re
import signal
import subprocess
import sys
import threading
from types import FrameType

from pneumo_keras.errors import TrainingError
from pneumo_keras.stopping import SIGNALS, Stopped, find_signal, raise_signal

LIFELINE = "PNEUMO_KERAS_LIFELINE"
"""Environment variable of the worker: what its watcher writes signals to, and what stands for stderr."""

KEPT_LINES = 200  # of what libraries said last
CRASHED = re.compile(r"stopped sending heartbeats\):\s*(.*?)\s*The tasks have crashed", re.DOTALL)
LEADERLESS = re.compile(r"leader task|error polling|coordination.?service", re.IGNORECASE)


def is_watched() -> bool:
    """Whether this process is the worker of another one."""
    return LIFELINE in os.environ


def watch(arguments: list[str], *, next_step: str) -> int:
    """Does a command in a process of its own and waits for its end.

    Ctrl-C and SIGTERM are handed on once; a second one ends both at once.

    Args:
        arguments: Of the command line.
        next_step: What a user does where the command came to no end of its own.

    Returns:
        Its exit status.

    Raises:
        TrainingError: Another process of the training was lost, or this one.
        Stopped: The second signal came.
    """
    reading, writing = os.pipe()
    stderr = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    worker = subprocess.Popen(
        [sys.executable, "-m", "pneumo_keras", *arguments],
        env={**os.environ, LIFELINE: f"{reading},{stderr}"},
        pass_fds=(reading, stderr),
        stderr=subprocess.PIPE,
        process_group=0,  # a terminal's Ctrl-C comes here alone
        text=True,
        errors="replace",
    )
    os.close(reading)
    os.close(stderr)
    with _handing_on(worker, writing):
        said = collections.deque(worker.stderr or (), KEPT_LINES)
        status = worker.wait()
    os.close(writing)
    if status in (0, 1, 2) or status > 128:
        return status
    raise explain_end(status, "".join(said), next_step)


def explain_end(status: int, said: str, next_step: str) -> TrainingError:
    """What a worker died of, in one line.

    Args:
        status: As `subprocess` has it: below zero for a signal.
        said: By the libraries.
        next_step: For the user.
    """
    if found := CRASHED.search(said):
        lost = ", ".join(re.findall(r"\d+", found[1])) or "another one"
    elif LEADERLESS.search(said):
        lost = "0"
    else:
        last = " ".join(said.split())[-200:]
        return TrainingError(
            f"This process of the training was ended by signal {-status}, or crashed. {next_step} "
            f"Received: {last or 'nothing'}"
        )
    return TrainingError(
        f"Process {lost} of the training was lost, and no other can go on without it. {next_step}"
    )


def attach() -> None:
    """Begins the life of a worker: what Python says goes to the user, and it ends with its watcher."""
    reading, stderr = map(int, os.environ[LIFELINE].split(","))
    sys.stderr = os.fdopen(stderr, "w", buffering=1, errors="backslashreplace")
    threading.Thread(target=_listen, args=(reading,), daemon=True, name="lifeline").start()


def _listen(reading: int) -> None:
    while number := os.read(reading, 1):
        # Whoever signals to a whole group has told both.
        if not find_signal():
            raise_signal(number[0])
    os._exit(1)


class _handing_on:  # noqa: N801 (a context manager)
    """Hands signals on to the worker inside the `with` block."""

    def __init__(self, worker: subprocess.Popen[str], writing: int) -> None:
        self._worker, self._writing, self._received = worker, writing, 0

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            self._worker.kill()
            raise Stopped(number)
        self._received = number
        os.write(self._writing, bytes([number]))
