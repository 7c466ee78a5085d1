"""Launcher: starts one worker of a distributed training and reports in one line how it ended.

JAX ends a process that lost another one by a signal, and its libraries print a page about it. So a worker
does the training, and its libraries write into a pipe; its launcher, without JAX, interprets that.
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
from typing import Any

from pneumo_keras.errors import TrainingError
from pneumo_keras.runtime.invocation import PROGRAM, find_program
from pneumo_keras.runtime.signals import SIGNALS, Stopped, find_signal

WORKER = "PNEUMO_KERAS_WORKER"
"""Environment variable of a worker: its open files for what Python writes to stdout and stderr."""

KEPT_LINES = 200  # of what libraries wrote last
CRASHED = re.compile(r"stopped sending heartbeats\):\s*(.*?)\s*The tasks have crashed", re.DOTALL)
UNJOINED = re.compile(r"coordination\.?service/(RegisterTask|Barrier)", re.IGNORECASE)
LEADERLESS = re.compile(r"leader task|error polling|coordination.?service", re.IGNORECASE)


def is_worker() -> bool:
    """Whether this process was started by a launcher."""
    return WORKER in os.environ


def launch(arguments: Sequence[str], *, next_step: str) -> int:
    """Runs a command in a worker, and returns its exit status.

    Ctrl-C and SIGTERM are passed on once; a second one ends both at once.

    Args:
        arguments: The command line.
        next_step: What the user can do if the worker is lost.

    Raises:
        TrainingError: Another process of the training was lost, or this one.
        Stopped: The second signal came.
    """
    given = os.dup(1), os.dup(2)
    worker = subprocess.Popen(
        [sys.executable, "-m", "pneumo_keras", *arguments],
        env={**os.environ, WORKER: ",".join(map(str, given)), PROGRAM: find_program()},
        pass_fds=given,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,  # a terminal's Ctrl-C comes here alone
        bufsize=0,
    )
    for descriptor in given:
        os.close(descriptor)
    signals: Any = worker.stdin
    received = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if received:
            worker.kill()
            raise Stopped(number)
        received.append(number)
        signals.write(bytes([number]))

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        with worker:
            lines = collections.deque(worker.stdout or (), KEPT_LINES)
            status = worker.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status in (0, 1, 2) or status > 128:
        return status
    raise explain_end(status, b"".join(lines).decode(errors="replace"), next_step)


def explain_end(status: int, text: str, next_step: str) -> TrainingError:
    """Why a worker ended, in one line.

    Args:
        status: As `subprocess` has it: below zero for a signal.
        text: Written by the libraries.
        next_step: See `launch`.
    """
    if UNJOINED.search(text):
        return TrainingError(
            "The processes of the training did not connect: start all of them within five minutes, with the "
            "same compute.processes and a compute.coordinator that each can reach, where the first one runs."
        )
    if found := CRASHED.search(text):
        lost = ", ".join(re.findall(r"\d+", found[1])) or "another one"
    elif LEADERLESS.search(text):
        lost = "0"
    elif status == -signal.SIGKILL:
        return TrainingError(
            f"This process of the training was killed, probably by the system for lack of memory. {next_step}"
        )
    else:
        last = " ".join(text.split())[-200:] or "nothing"
        return TrainingError(
            f"This process of the training crashed (status {status}). {next_step} Received: {last}"
        )
    return TrainingError(
        f"Process {lost} of the training was lost, and no other can continue without it. {next_step}"
    )


def attach() -> None:
    """Connects a worker: what Python prints goes to the user, and the worker ends with its launcher."""
    stdout, stderr = map(int, os.environ[WORKER].split(","))
    sys.stdout = os.fdopen(stdout, "w")
    sys.stderr = os.fdopen(stderr, "w", buffering=1, errors="backslashreplace")
    threading.Thread(target=_listen, daemon=True, name="launcher").start()


def _listen() -> None:
    while number := os.read(0, 1):
        if not find_signal():  # or it was sent to the whole process group
            os.kill(os.getpid(), number[0])
    os._exit(1)
