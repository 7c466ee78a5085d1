import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pneumo_keras.cluster import watch
from pneumo_keras.cluster.watch import explain_ray, is_rays
from pneumo_keras.errors import ClusterError, RunError
from pneumo_keras.runtime import signals
from pneumo_keras.runtime.signals import Stopped, heed_signals

ray = pytest.importorskip("ray")

ROOT = Path(__file__).parents[2]

LOST = (
    "Ray gave up: the process has died or does not answer. Ray's logs say why, mostly for want of memory. "
    "Run it again, predict with --resume."
)

WAITING = """
import signal, sys, time
from pneumo_keras.cluster import watch
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
watch.INTERVAL, watch.GRACE = 0.01, 0.2
watch._list_places = lambda ray: {"the process": lambda: False}
with watch.explain_ray():
    time.sleep(30)
"""

NAMED = """
import time
from pneumo_keras.runtime import signals
from pneumo_keras.cluster import watch
from pneumo_keras.errors import ClusterError
from pneumo_keras.runtime.signals import heed_signals

places = {"one": lambda: True, "other": lambda: False}
watch.INTERVAL, watch._list_places = 0.01, lambda ray: places
try:
    with heed_signals(), watch.explain_ray():
        time.sleep(30)
except ClusterError as error:
    print(error, signals.is_crash_expected())
"""

KILLING = """
import sys, time
import psutil
from pneumo_keras import __main__
from pneumo_keras.cli import main
from pneumo_keras.cluster.connection import open_cluster

def work():
    with open_cluster():
        (process,) = [one for one in psutil.Process().children(recursive=True) if one.name() == sys.argv[1]]
        process.kill()
        time.sleep(60)

main.commands["config"].commands["list"].callback = work
__main__.start(["-q", "config", "list"])
"""


@pytest.fixture
def places(monkeypatch):
    """Processes as the test says, each with whether it answers."""
    answers = {"one": True, "other": True}
    looks = {name: lambda name=name: answers[name] for name in answers}
    monkeypatch.setattr(watch, "_list_places", lambda ray: looks)
    monkeypatch.setattr(watch, "INTERVAL", 0.01)
    monkeypatch.setattr(signals._Signals, "crashing", False)
    return answers


def call(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_whatever_dies_is_named_wherever_python_waits():
    done = call(NAMED)
    line = LOST.replace("the process", "other")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{line} True\n", "")


def test_what_answers_is_left_in_peace(places):
    with explain_ray():
        time.sleep(0.1)
    assert not signals.is_crash_expected()
    places["one"] = False
    time.sleep(0.1)  # nobody looks any more


def test_a_process_that_answers_again_is_there(places, monkeypatch):
    monkeypatch.setattr(watch, "MISSES", 10**6)
    with explain_ray():
        places["one"] = False
        time.sleep(0.05)
        places["one"] = True
        time.sleep(0.05)


def test_a_process_that_cannot_be_told_ends_with_the_line():
    done = call(WAITING, "deaf")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {LOST}\n")


@pytest.mark.parametrize(
    "error",
    [
        ray.exceptions.RaySystemError("the store\nis gone"),
        ray.exceptions.ActorDiedError(),
        ray.exceptions.RpcError("unavailable"),
        ray.exceptions.ObjectLostError("ab", None, ""),
        ray.exceptions.RayTaskError("work", "", ray.exceptions.RaySystemError("the store is gone")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_ray_raises_within_is_one_line(places, error):
    with pytest.raises(ClusterError, match=r"^Ray gave up\. Received: ") as caught, explain_ray():
        raise error
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [RunError("item 5"), ValueError("a bug"), ray.exceptions.RayTaskError("work", "", ValueError("a bug"))],
    ids=lambda error: type(error).__name__,
)
def test_what_ray_was_told_to_do_raises_as_it_does(places, error):
    assert not is_rays(error)
    with pytest.raises(type(error)) as caught, explain_ray():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_ray_took_for_itself_is_told(places, number):
    def work():
        with heed_signals(), explain_ray():
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            except Stopped:
                raise KeyboardInterrupt from None  # as Ray's compiled part does

    with pytest.raises(Stopped) as caught:
        work()
    assert caught.value.number == number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "name"),
    [("raylet", "Ray's process on this machine (raylet)"), ("gcs_server", "the head of the cluster (GCS)")],
)
def test_a_process_of_ray_that_is_killed_is_one_line(process, name):
    done = call(KILLING, process)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"Error: {LOST}\n".replace("the process", name),
    )
