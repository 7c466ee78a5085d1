"""The last word of a process whose companions are gone, and lines for what a user can mend."""

import os
import signal
import subprocess
import sys

import pytest

from pneumo_keras.config import load_config
from pneumo_keras.distributed import meeting
from pneumo_keras.distributed.launcher import explain_end, watch
from pneumo_keras.distributed.topology import Place
from pneumo_keras.errors import BackendError, PneumoError, SettingsError
from pneumo_keras.recipes.beside import check_identity

NEXT = "Begin anew."
# What JAX 0.10 says of the end of the process that it all hangs on.
LEADERLESS = (
    "Polled an error from coordination service (this can be an error from this or another task).\n"
    "Terminating process because the JAX distributed service detected fatal errors. absl::Status: "
    "UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was preempted\n"
)


def test_the_end_of_a_worker_is_put_into_one_line():
    assert str(explain_end(-signal.SIGABRT, LEADERLESS, NEXT)) == (
        "Process 0 of the training was lost, and no other can go on without it. Begin anew."
    )
    assert str(explain_end(-signal.SIGKILL, "", NEXT)) == (
        "This process of the training was killed, as systems do that run out of memory. Begin anew."
    )
    assert str(explain_end(-signal.SIGSEGV, "one\ntwo\n", NEXT)) == (
        "This process of the training crashed (status -11). Begin anew. Received: one two"
    )


def test_where_nobody_answers_jax_says_so_in_the_words_that_are_looked_for(tmp_path):
    code = (
        "from pneumo_keras import meeting\n"
        "meeting.JOIN_SECONDS = 2\n"
        "meeting.join(meeting.Place(2, '127.0.0.1:9', 1))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert str(explain_end(ended.returncode, ended.stderr, NEXT)) == (
        "The processes of the training did not meet: start all of them within five minutes, with the same "
        "compute.processes and a compute.coordinator that each can reach, where the first one runs."
    )


def test_a_watched_command_prints_and_ends_as_it_would_by_itself(capfd):
    assert watch(["config", "list"], next_step=NEXT) == 0
    assert "demo" in capfd.readouterr().out
    assert watch(["config", "show", "nowhere"], next_step=NEXT) == 1
    out, err = capfd.readouterr()
    assert (out, err.startswith("Error: "), err.count("\n")) == ("", True, 1)


def test_a_worker_ends_with_its_watcher():
    code = (
        "import os, signal, threading, time\n"
        "from pneumo_keras import supervision\n"
        "os.environ[supervision.LIFELINE] = '0,1,2'\n"
        "supervision.attach()\n"
        "time.sleep(60)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    worker.stdin.close()
    assert worker.wait(timeout=30) == 1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            ["compute.processes=2"],
            'compute.processes needs training.mode="online": cached mode fits a head in seconds on one '
            "device. Received: 2",
        ),
        (
            ["compute.rank=0", "compute.processes=2"],
            "compute.coordinator and compute.rank go together, with compute.processes of at least 2",
        ),
        (
            ["compute.coordinator=a:1", "compute.rank=0"],
            "compute.coordinator and compute.rank go together, with compute.processes of at least 2",
        ),
        (
            ["compute.coordinator=a:1", "compute.rank=2", "compute.processes=2"],
            "compute.rank must be below compute.processes, 2. Received: 2",
        ),
        (
            ["compute.coordinator=a", "compute.rank=1", "compute.processes=2"],
            "compute.coordinator must look like 10.0.0.1:7777. Received: 'a'",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, line):
    with pytest.raises(SettingsError) as caught:
        load_config("demo", settings)
    assert str(caught.value) == line


def test_without_a_cluster_somebody_must_say_where_the_first_process_is():
    code = (
        "from pneumo_keras import meeting\n"
        "try: meeting.join(meeting.Place(0, None, None))\n"
        "except meeting.SettingsError as error: print(error)\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI"))}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=clean
    )
    assert ended.stdout.startswith(
        "compute.processes=0 needs compute.coordinator and compute.rank where neither SLURM, Open MPI nor "
        "Kubernetes says them. Received: "
    )


def test_only_jax_joins_processes(monkeypatch):
    monkeypatch.setattr(meeting, "BACKEND", "torch")
    with pytest.raises(BackendError) as caught:
        meeting.join(Place(2, "a:1", 0))
    assert str(caught.value) == "compute.processes needs KERAS_BACKEND=jax. Received: torch"


def test_processes_that_train_something_else_are_refused():
    with pytest.raises(PneumoError) as caught:
        check_identity({"settings": "a", "engine": "keras"}, {"settings": "a", "engine": "jax"}, 3)
    assert str(caught.value) == (
        "All processes of a training must have the same engine. Received: keras in process 3, jax in the "
        "first. Start all with the same command"
    )
