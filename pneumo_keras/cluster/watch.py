"""Whether Ray is still there: where it is not, it would end this process from within and without a word."""

import contextlib
import importlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pneumo_keras.errors import ClusterError
from pneumo_keras.runtime.private_apis import find_ray_socket
from pneumo_keras.runtime.signals import expect_crash, keep_stopped, raise_signal

INTERVAL = 0.5  # seconds from look to look
MISSES = 3  # in a row, of what does not answer any more
PATIENCE = 2.0  # seconds for an answer
GRACE = 5.0  # seconds for this process to end after it was told; Ray ends it 10 s after its raylet

NEXT = "Ray's logs say why, mostly for want of memory. Run it again, predict with --resume."


@contextlib.contextmanager
def explain_ray() -> Iterator[None]:
    """Turns what Ray raises into one line, and watches meanwhile whether its processes answer.

    Raises:
        ClusterError: Ray raised something, or one of its processes that this one needs is gone.
    """
    ray = importlib.import_module("ray")
    watch = _Watch(_list_places(ray))
    try:
        with keep_stopped():
            yield
    except BaseException as error:
        if watch.lost:
            expect_crash()
            raise ClusterError(watch.lost) from error
        if isinstance(error, Exception) and is_rays(error):
            raise to_cluster_error(error) from error
        raise
    finally:
        watch.end()


def is_rays(error: BaseException | None) -> bool:
    """Whether Ray itself failed, and not what it was told to do."""
    cause = getattr(error, "cause", None)  # of a RayTaskError: what was raised elsewhere
    if isinstance(cause, BaseException):
        return is_rays(cause)
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("ray.")}
    return bool(kinds) and "RayTaskError" not in kinds


def to_cluster_error(error: BaseException) -> ClusterError:
    """What Ray said, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1][:300] if lines else type(error).__name__  # last what came first
    return ClusterError(f"Ray gave up. Received: {said}")


class _Watch:
    """A thread that looks again and again.

    Attributes:
        lost: What was lost, in a line; "" as long as all answers.
    """

    def __init__(self, places: Mapping[str, Callable[[], bool]]) -> None:
        self.lost = ""
        self._places, self._over = places, threading.Event()
        threading.Thread(target=self._work, daemon=True, name="ray-watch").start()

    def end(self) -> None:
        """Looks no more."""
        self._over.set()

    def _work(self) -> None:
        misses = dict.fromkeys(self._places, 0)
        while not self._over.wait(INTERVAL):
            for name, answers in self._places.items():
                misses[name] = 0 if answers() else misses[name] + 1
                if misses[name] == MISSES:
                    self._tell(name)
                    return

    def _tell(self, name: str) -> None:
        """Ends the work in the main thread, and then the process if that waits for what is gone."""
        self.lost = f"Ray gave up: {name} has died or does not answer. {NEXT}"
        raise_signal(signal.SIGINT)
        if not self._over.wait(GRACE):
            sys.stderr.write(f"Error: {self.lost}\n")
            sys.stderr.flush()
            os._exit(1)


def _list_places(ray: Any) -> dict[str, Callable[[], bool]]:
    """Processes that this one needs, each with what tells whether it answers."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    head = host.strip("[]"), int(port)
    places = {"the head of the cluster (GCS)": lambda: _answers(head)}
    if path := find_ray_socket():
        places["Ray's process on this machine (raylet)"] = lambda: _answers(path)
    return places


def _answers(address: tuple[str, int] | str) -> bool:
    """Whether somebody listens at a host and port, or behind a local socket."""
    try:
        if not isinstance(address, str):
            socket.create_connection(address, timeout=PATIENCE).close()
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local:
            local.settimeout(PATIENCE)
            local.connect(address)
            return True
    except OSError:
        return False
