"""The Ray cluster of the environment, or an instance on this machine."""

import contextlib
import functools
import importlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pneumo_keras.cluster.watch import explain_ray
from pneumo_keras.errors import ClusterError
from pneumo_keras.runtime.backend import check_packages
from pneumo_keras.runtime.private_apis import keep_ray_off_stdout
from pneumo_keras.runtime.signals import SIGNALS, is_stop_asked

log = logging.getLogger("pneumo_keras")

LOCAL = "local"
UNASKED = ("auto", LOCAL)  # addresses behind which Ray itself looks, and says at once what it finds
PATIENCE = 5.0  # seconds for the head of a cluster to answer
ENCRYPTED = ("1", "true", "True")  # values of RAY_USE_TLS, where whoever listens answers no greeting of ours

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what it says otherwise is for its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who asks for no accelerator sees none
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # or a job that sets one of PASSED_ON would be refused
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # or `uv run` would send this folder to all workers and install it
}
"""What Ray reads when it is imported; the user's own values win."""

PASSED_ON = (
    *("KERAS_BACKEND", "PNEUMO_KERAS_CACHE"),
    *("JAX_PLATFORMS", "OMP_NUM_THREADS", "XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE"),
)
"""Variables that workers need as they are here."""

# The opening of HTTP/2, which gRPC speaks, and an empty frame of settings, which its other end answers.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def check_cluster(user: str) -> None:
    """Checks that Ray is installed, without importing it.

    Args:
        user: The option or setting that asks for it.

    Raises:
        BackendError: It is not.
    """
    check_packages(user, ["ray", "pyarrow"], extra="cluster", pip="'ray[data]'")


@contextlib.contextmanager
def open_cluster() -> Iterator[None]:
    """Joins the cluster that RAY_ADDRESS names, or starts one on this machine, until the end of the block.

    Raises:
        ClusterError: Nobody answers there, Ray cannot start, or it fails or dies within the block.
    """
    address = os.environ.get("RAY_ADDRESS") or LOCAL
    if address not in UNASKED:
        _check_head(address)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray = importlib.import_module("ray")
    keeper = _Keeper()
    try:
        _join(ray, keeper, address)
        _settle()
        with explain_ray():
            yield
    finally:
        # A signal may have come to Ray's processes, too: they answer no more. They end with this one.
        if not is_stop_asked():
            with contextlib.suppress(Exception):  # the work is done
                keeper.call(ray.shutdown)


class _Keeper:
    """A thread that calls what it is given, one after the other.

    In the main thread Ray would take SIGTERM for itself. What it starts ends with the thread that started
    it, so this one stays; it keeps no process from ending.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Future, Callable[[], object]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="ray").start()

    def call(self, function: Callable[[], object]) -> None:
        """Waits until it is done, and raises what it raises."""
        done = Future()
        self._calls.put((done, function))
        done.result()

    def _work(self) -> None:
        while True:
            done, function = self._calls.get()
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001 (raised again where somebody waits)
                done.set_exception(error)


def _join(ray: Any, keeper: _Keeper, address: str) -> None:
    log.info("Starting Ray on this machine" if address == LOCAL else f"Joining the Ray cluster at {address}")
    start = functools.partial(
        ray.init,
        address=address,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": _list_variables()},
        **({"include_dashboard": False} if address == LOCAL else {}),
    )
    try:
        with _mute_stderr():
            keeper.call(start)
        _heed_again()
    except Exception as error:  # some of what Ray raises is of no kind of its own
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(
            f"Ray must start, or join the cluster that RAY_ADDRESS names. Received: {address}: {reason}"
        ) from error


def _heed_again() -> None:
    """Ray's compiled part has taken signals over from Python, which does not know."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.getsignal(number))


def _list_variables() -> dict[str, str]:
    """Those for workers, which import this package from where it is here, if that is there."""
    package = str(Path(__file__).parents[2])
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**passed, "PYTHONPATH": os.pathsep.join(paths)}


def _settle() -> None:
    """Results in order, and nothing on the screen: the file that Ray Data logs to has it all."""
    keep_ray_off_stdout()
    context = importlib.import_module("ray.data").DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":  # in its own settings
            handler.setLevel(logging.CRITICAL + 1)


def _check_head(address: str) -> None:
    """Ray itself would try for two minutes and then end the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        raise ClusterError(
            "RAY_ADDRESS must be host:port of a cluster's head, 'auto' for the one of this machine, or "
            f"'local'. Received: {address!r}"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as head:
            if os.environ.get("RAY_USE_TLS", "0") in ENCRYPTED:
                return
            head.sendall(GREETING)
            answer = head.recv(len(GREETING))
    except (OSError, OverflowError) as error:
        raise _to_refusal(address, str(error) or type(error).__name__) from error
    if answer[3:4] != GREETING[-6:-5]:
        raise _to_refusal(address, "whoever listens there is no Ray")


def _to_refusal(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"RAY_ADDRESS must name the head of a running Ray cluster. Received: {address} ({reason}). Start one "
        "there: ray start --head, or unset it for an instance on this machine."
    )


@contextlib.contextmanager
def _mute_stderr() -> Iterator[None]:
    """Ray's compiled part says there how much it is going to say."""
    sys.stderr.flush()
    with Path(os.devnull).open("wb") as nowhere:
        before = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
