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
from collections.abc import Sequence
from types import FrameType

from pneumo_keras.errors import TrainingError
from pneumo_keras.runtime.invocation import CALL, find_call
from pneumo_keras.runtime.signals import SIGNALS, Stopped, find_signal, raise_signal

LIFELINE = "PNEUMO_KERAS_LIFELINE"
"""Environment variable of the worker: three open files, for signals from its watcher, stdout and stderr."""

KEPT_LINES = 200  # of what libraries said last
CRASHED = re.compile(r"stopped sending heartbeats\):\s*(.*?)\s*The tasks have crashed", re.DOTALL)
UNJOINED = re.compile(r"coordination\.?service/(RegisterTask|Barrier)", re.IGNORECASE)
LEADERLESS = re.compile(r"leader task|error polling|coordination.?service", re.IGNORECASE)


def is_watched() -> bool:
    """Whether this process is the worker of another one."""
    return LIFELINE in os.environ


def watch(arguments: Sequence[str], *, next_step: str) -> int:
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
    given = reading, os.dup(1), os.dup(2)
    worker = subprocess.Popen(
        [sys.executable, "-m", "pneumo_keras", *arguments],
        env={**os.environ, LIFELINE: ",".join(map(str, given)), CALL: find_call()},
        pass_fds=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,  # a terminal's Ctrl-C comes here alone
        text=True,
        errors="replace",
    )
    for descriptor in given:
        os.close(descriptor)
    with worker, _handing_on(worker, writing):
        said = collections.deque(worker.stdout or (), KEPT_LINES)
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
    if UNJOINED.search(said):
        return TrainingError(
            "The processes of the training did not meet: start all of them within five minutes, with the "
            "same compute.processes and a compute.coordinator that each can reach, where the first one runs."
        )
    if found := CRASHED.search(said):
        lost = ", ".join(re.findall(r"\d+", found[1])) or "another one"
    elif LEADERLESS.search(said):
        lost = "0"
    elif status == -signal.SIGKILL:
        return TrainingError(
            f"This process of the training was killed, as systems do that run out of memory. {next_step}"
        )
    else:
        last = " ".join(said.split())[-200:] or "nothing"
        return TrainingError(
            f"This process of the training crashed (status {status}). {next_step} Received: {last}"
        )
    return TrainingError(
        f"Process {lost} of the training was lost, and no other can go on without it. {next_step}"
    )


def attach() -> None:
    """Begins the life of a worker: what Python says goes to the user, and it ends with its watcher."""
    reading, stdout, stderr = map(int, os.environ[LIFELINE].split(","))
    sys.stdout = os.fdopen(stdout, "w")
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
