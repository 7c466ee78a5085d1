"""Steps that several devices share, here and in several processes, against those of one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pneumo_keras.distributed.data_parallel import DataParallel
from pneumo_keras.distributed.launcher import explain_end
from pneumo_keras.errors import SettingsError
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.members import PADDING
from tests.distributed.acceptance import find_port
from tests.distributed.toy_fit import fit_toy

ROOT = Path(__file__).resolve().parents[2]
CLOSE = 1e-5
SECONDS = 240


@pytest.fixture(scope="module")
def one():
    return fit_toy()


def start(tmp_path, processes=1, arguments=([], []), devices=1):
    """What each process ends with: its status and what it printed."""
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    port = find_port()
    command = [sys.executable, "-m", "tests.distributed.toy_fit", str(tmp_path / "compiled")]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(processes), str(port), *arguments[rank]],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,  # gloo's
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        said = [process.communicate(timeout=SECONDS)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, text) for process, text in zip(running, said, strict=True)]


def assert_close(said, one):
    found = json.loads(said.splitlines()[-1])
    assert found["kept"] == one["kept"]
    for mine, theirs in zip(found["epochs"], one["epochs"], strict=True):
        assert mine == pytest.approx(theirs, abs=CLOSE)
    for name in ("weights", "scores"):
        for mine, theirs in zip(found[name], one[name], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=CLOSE, rtol=0)


@pytest.mark.system
def test_two_devices_fit_as_one_does(tmp_path, one):
    ((status, said),) = start(tmp_path, devices=2)
    assert status == 0, said
    assert_close(said, one)


@pytest.mark.system
def test_two_processes_stop_together_and_go_on_to_what_one_finds(tmp_path, one):
    checkpoint = tmp_path / "checkpoint"
    keep = ["--checkpoint", str(checkpoint)]
    stopped = start(tmp_path, 2, [keep, ["--at", "5"]])
    assert [status for status, _ in stopped] == [143, 143], stopped
    assert checkpoint.is_file()
    for status, said in start(tmp_path, 2, [keep, []]):
        assert status == 0, said
        assert_close(said, one)


@pytest.mark.system
def test_a_process_that_is_killed_ends_the_other_in_one_line(tmp_path):
    lost = ["--lost-seconds", "5"]
    (status, said), killed = start(tmp_path, 2, [lost, [*lost, "--at", "4", "--signal", "9"]])
    assert killed[0] == -signal.SIGKILL
    assert str(explain_end(status, said, "Begin anew.")) == (
        "Process 1 of the training was lost, and no other can continue without it. Begin anew."
    )


def read_all(local_rows, workers=1):
    batches = Batches(
        [np.arange(10.0), -np.arange(10.0)],
        np.ones(10, np.int64),
        batch_size=4,
        seed=1,
        local_rows=local_rows,
        workers=workers,
    )
    batches.start_epoch(1)
    return [batches[index] for index in range(3)]


def test_shares_together_are_the_batches_and_nothing_else():
    whole = read_all(None)
    for batch, *parts in zip(whole, *(read_all(slice(row, row + 1), 2) for row in range(4)), strict=True):
        inputs, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        assert len(inputs) == 4
        counted = labels != PADDING
        np.testing.assert_array_equal(inputs[counted], batch[0])
        np.testing.assert_array_equal(labels[counted], batch[1])


@pytest.mark.parametrize(("size", "take"), [(12, "8 or 16"), (3, "8"), (17, "16 or 24")])
def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch, size, take):
    devices = DataParallel()
    monkeypatch.setattr(devices, "count", 8)
    with pytest.raises(SettingsError) as caught:
        devices.choose_batch_rows(size)
    assert str(caught.value) == (
        f"training.batch_size must be a multiple of the 8 devices that share a step. Received: {size}. Take "
        f"{take}, or let JAX see fewer devices"
    )
