"""The Ray cluster of the environment, or an instance on this machine."""

import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pneumo_keras.errors import ClusterError
from pneumo_keras.runtime.backend import check_packages
from pneumo_keras.runtime.private_apis import keep_ray_off_stdout
from pneumo_keras.runtime.signals import SIGNALS, find_signal

log = logging.getLogger("pneumo_keras")

LOCAL = "local"
UNCHECKED = ("auto", LOCAL)  # addresses that Ray itself checks immediately
CONNECT_SECONDS = 5.0

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # an actor without an accelerator sees none
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # or a job that sets one of PASSED_ON would be refused
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # or `uv run` would send this folder to all workers and install it
}
"""What Ray reads when it is imported; the user's own values win."""

PASSED_ON = (
    *("KERAS_BACKEND", "PNEUMO_KERAS_CACHE"),
    *("JAX_PLATFORMS", "OMP_NUM_THREADS", "XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE"),
)
"""Variables that workers need as they are here."""


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
        ClusterError: Nothing responds, Ray cannot start, or it fails within the block.
    """
    address = os.environ.get("RAY_ADDRESS") or LOCAL
    if address not in UNCHECKED:
        _check_head(address)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray = importlib.import_module("ray")
    try:
        _join(ray, address)
        _configure_data()
        with _explain_ray(ray):
            yield
    finally:
        # A signal may have ended Ray's processes, too: they would not respond. They end with this one.
        if not find_signal():
            with contextlib.suppress(Exception):  # the work is done
                ray.shutdown()


def describe_cluster() -> str:
    """What the open cluster has, in words."""
    ray = importlib.import_module("ray")
    has = ray.cluster_resources()
    words = [(len(list_machines(ray)), "machine"), (has.get("CPU", 0), "core")]
    words += [(has["GPU"], "accelerator")] if has.get("GPU") else []
    return ", ".join(f"{count:g} {word}{'s' * (count != 1)}" for count, word in words)


def list_machines(ray: Any) -> list[Any]:
    """Machines that have cores for work: the head of a cluster often offers none."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def _join(ray: Any, address: str) -> None:
    log.info("Starting Ray on this machine" if address == LOCAL else f"Joining the Ray cluster at {address}")
    package = str(Path(__file__).parents[2])  # workers import it from the same path, where that exists
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        with _mute_stderr(), _keep_signals():
            ray.init(
                address=address,
                logging_level="ERROR",
                log_to_driver=False,
                runtime_env={"env_vars": {**passed, "PYTHONPATH": os.pathsep.join(paths)}},
                **({"include_dashboard": False} if address == LOCAL else {}),
            )
    except Exception as error:  # Ray raises plain exceptions, too
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(
            f"Ray must start, or join the cluster that RAY_ADDRESS names. Received: {address}: {reason}"
        ) from error


@contextlib.contextmanager
def _keep_signals() -> Iterator[None]:
    """Restores the handlers of signals, which Ray replaces."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _mute_stderr() -> Iterator[None]:
    """Ray's compiled part writes to it how much it is going to log."""
    sys.stderr.flush()
    with Path(os.devnull).open("wb") as nowhere:
        before = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


def _configure_data() -> None:
    """Results in order, and nothing on the screen: Ray Data logs to a file."""
    keep_ray_off_stdout()
    context = importlib.import_module("ray.data").DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":
            handler.setLevel(logging.CRITICAL + 1)


@contextlib.contextmanager
def _explain_ray(ray: Any) -> Iterator[None]:
    """One line where Ray itself fails; errors of stages are raised as they are."""
    try:
        yield
    except ray.exceptions.RayError as error:
        if not isinstance(getattr(error, "cause", error), ray.exceptions.RayError):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else type(error).__name__  # the last line is the first cause
        raise ClusterError(
            f"Ray failed, usually out of memory: its logs have the reason. Received: {reason}"
        ) from error


def _check_head(address: str) -> None:
    """Ray itself would try for two minutes and then end the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        raise ClusterError(
            "RAY_ADDRESS must be host:port of a cluster's head, 'auto' for the one of this machine, or "
            f"'local'. Received: {address!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"RAY_ADDRESS must name the head of a running Ray cluster. Received: {address} ({error}). Start "
            "one there: ray start --head, or unset it for an instance on this machine."
        ) from error
