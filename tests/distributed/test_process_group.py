"""Processes of one training: how they come together, compare what they have, and end."""

import os
import subprocess
import sys

import pytest

from pneumo_keras.cli import main
from pneumo_keras.cli import train as train_command
from pneumo_keras.config import load_config
from pneumo_keras.distributed.launcher import explain_end
from pneumo_keras.errors import SettingsError
from tests.distributed.acceptance import ONLINE, find_port, start_two, to_log
from tests.small import SMALL

SECONDS = 240

COMPARE = """
import json, sys
from pneumo_keras.distributed.process_group import initialize
group = initialize(2, f"127.0.0.1:{sys.argv[2]}", int(sys.argv[1]))
assert group.broadcast("bytes", b"abc" if group.rank == 0 else b"") == b"abc"
assert group.check_same("alike", {"seed": 1})
assert not group.check_same("nothing", None if group.rank == 0 else {"seed": 1})
with group.explain_loss():
    try:
        group.check_same("engines", {"seed": 1, "engine": sys.argv[3]})
    except Exception as error:
        print(error, file=sys.stderr)
        group.shutdown()
"""


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


def test_only_jax_joins_processes(monkeypatch, capsys):
    monkeypatch.setattr(train_command, "BACKEND", "torch")
    with pytest.raises(SystemExit):
        main(["train", *ONLINE, "--set", "compute.processes=2", "--run", "run"])
    assert capsys.readouterr().err == "Error: compute.processes needs KERAS_BACKEND=jax. Received: torch\n"


@pytest.mark.system
def test_where_nobody_answers_jax_says_so_in_the_words_that_are_looked_for():
    code = (
        "from pneumo_keras.distributed import process_group\n"
        "process_group.INITIALIZE_SECONDS = 2\n"
        "process_group.initialize(2, '127.0.0.1:9', 1)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert str(explain_end(ended.returncode, ended.stderr, "")) == (
        "The processes of the training did not connect: start all of them within five minutes, with the same "
        "compute.processes and a compute.coordinator that each can reach, where the first one runs."
    )


@pytest.mark.system
def test_without_a_cluster_somebody_must_say_where_the_first_process_is():
    code = (
        "from pneumo_keras.distributed import process_group\n"
        "try: process_group.initialize(0, None, None)\n"
        "except process_group.SettingsError as error: print(error)\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI"))}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=clean
    )
    assert ended.stdout.startswith(
        "compute.processes=0 needs compute.coordinator and compute.rank where neither SLURM, Open MPI nor "
        "Kubernetes defines them. Received: "
    )


@pytest.mark.system
def test_processes_that_train_something_else_all_say_so():
    port = str(find_port())
    both = [
        subprocess.Popen(
            [sys.executable, "-c", COMPARE, str(rank), port, engine],
            stdout=subprocess.DEVNULL,  # gloo's
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, engine in enumerate(("jax", "keras"))
    ]
    ended = [(process.communicate(timeout=SECONDS)[1], process.returncode) for process in both]
    assert ended == 2 * [
        (
            "All processes of a training must have the same engine. Received: keras in process 1, jax in the "
            "first. Start all with the same command, on identical hosts\n",
            0,
        )
    ]


@pytest.mark.system
@pytest.mark.slow
def test_two_processes_train_and_the_first_alone_speaks(tmp_path):
    run = tmp_path / "run"
    small = [*SMALL, "model.feature_layers=['mixed0']", "training.batch_size=16"]
    processes = start_two(run, *ONLINE, *(part for one in small for part in ("--set", one)))
    try:
        assert [process.wait(SECONDS) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (to_log(run, rank).read_text() for rank in range(2))
    assert "2 processes train together; this is the first" in first
    assert "16 images a step over 2 devices: 8 each" in first
    assert (run / "metrics_val.json").is_file()
    assert second == ""
