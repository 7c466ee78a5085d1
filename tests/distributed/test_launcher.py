"""How a launcher hands a command to its worker and explains its end."""

import signal
import subprocess
import sys

import pytest

from pneumo_keras.cli import main
from pneumo_keras.cli import train as train_command
from pneumo_keras.distributed import launcher
from pneumo_keras.distributed.launcher import explain_end, launch
from pneumo_keras.distributed.process_group import ProcessGroup
from pneumo_keras.recipes import train
from pneumo_keras.runtime.signals import Stopped
from tests.distributed.acceptance import ONLINE

NEXT = "Start all of them again, with --run run --resume, to continue after the last checkpoint."
DISTRIBUTED = ["train", *ONLINE, "--set", "compute.processes=0", "--run", "run"]
# What JAX 0.10 says of the end of processes.
LEADERLESS = (
    "Polled an error from coordination service (this can be an error from this or another task).\n"
    "Terminating process because the JAX distributed service detected fatal errors. absl::Status: "
    "UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was preempted\n"
)
LOST = "Process {} of the training was lost, and no other can continue without it. Begin anew."


@pytest.mark.parametrize(
    ("status", "text", "line"),
    [
        (-signal.SIGABRT, LEADERLESS, LOST.format(0)),
        (
            -signal.SIGABRT,
            "(stopped sending heartbeats):\n /job:jax_worker/replica:0/task:1\nThe tasks have crashed",
            None,
        ),
        (
            -signal.SIGKILL,
            "",
            "This process of the training was killed, probably by the system for lack of memory. Begin anew.",
        ),
        (
            -signal.SIGSEGV,
            "one\ntwo\n",
            "This process of the training crashed (status -11). Begin anew. Received: one two",
        ),
    ],
)
def test_the_end_of_a_worker_is_one_line(status, text, line):
    said = str(explain_end(status, text, "Begin anew."))
    assert said == line if line else said.startswith("Process ") and "1 of the training was lost" in said


def test_a_command_in_a_worker_prints_and_ends_as_it_would_by_itself(capfd):
    assert launch(["config", "list"], next_step=NEXT) == 0
    assert "demo" in capfd.readouterr().out
    assert launch(["config", "show", "nowhere"], next_step=NEXT) == 1
    out, err = capfd.readouterr()
    assert (out, err.startswith("Error: "), err.count("\n")) == ("", True, 1)


def test_a_worker_ends_with_its_launcher():
    code = (
        "import os, time\n"
        "from pneumo_keras.distributed import launcher\n"
        "os.environ[launcher.WORKER] = f'{os.dup(1)},{os.dup(2)}'\n"
        "launcher.attach()\n"
        "time.sleep(60)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    worker.stdin.close()
    assert worker.wait(timeout=30) == 1


def test_a_worker_gets_the_signal_of_its_launcher_once():
    code = (
        "import os, time\n"
        "from pneumo_keras.distributed import launcher\n"
        "from pneumo_keras.runtime.signals import Stopped, defer_stop, find_signal, raise_on_signals\n"
        "os.environ[launcher.WORKER] = f'{os.dup(1)},{os.dup(2)}'\n"
        "with raise_on_signals(), defer_stop():\n"
        "    launcher.attach()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(1)\n"
        "    print(find_signal(), flush=True)\n"
        "    os._exit(0)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout.readline() == b"ready\n"
    out, _ = worker.communicate(bytes([signal.SIGINT, signal.SIGINT]), timeout=30)
    assert out in (b"2\n", b"")  # or its standard input was closed first


def test_the_worker_gets_the_command_that_was_given(monkeypatch):
    given = []

    def launch(arguments, *, next_step):
        given.append((list(arguments), next_step))
        return 3

    monkeypatch.setattr(launcher, "launch", launch)
    with pytest.raises(SystemExit) as ended:
        main(["-q", *DISTRIBUTED])
    assert ended.value.code == 3
    assert given == [(["-q", *DISTRIBUTED], NEXT)]


def test_a_stop_says_how_all_processes_go_on(monkeypatch, tmp_path, capsys):
    def stop(*_, **__):
        raise Stopped(2)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pneumo_keras.distributed.process_group.LINGER_SECONDS", 0)
    monkeypatch.setattr(launcher, "is_worker", lambda: True)
    monkeypatch.setattr(train_command, "_join_group", lambda config: ProcessGroup(0, 1))
    monkeypatch.setattr(train, "train_run", stop)
    with pytest.raises(SystemExit) as ended:
        main(DISTRIBUTED)
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"Stopped. {NEXT}\n"
