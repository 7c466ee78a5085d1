import os
import subprocess
import sys

import numpy as np
import pytest

from tests.bench import measuring
from tests.bench.measuring import (
    build_environment,
    list_descendants,
    measure_in_turn,
    measure_rate,
    run_measured,
    to_range,
    to_ratios,
)

TAKE = "held = bytearray({0}_000_000); held[::4096] = bytes(len(held[::4096])); import time; time.sleep(0.3)"


@pytest.mark.parametrize(("own", "child"), [(1, 150), (150, 1)])
def test_memory_of_a_process_and_of_its_child_are_told_apart(own, child):
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TAKE.format(child)!r}])"
    usage = run_measured([sys.executable, "-c", f"{TAKE.format(own)}; {code}"])
    assert own < usage.peak < own + 60 and child < usage.child_peak < child + 60
    assert 0.6 < usage.seconds < 20


def test_a_command_that_fails_is_an_error_with_its_last_words():
    with pytest.raises(RuntimeError, match="no such thing"):
        run_measured([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_children_of_all_threads_are_found():
    code = (
        "import subprocess, sys, threading\n"
        "start = lambda: subprocess.run([sys.executable, '-c', 'print(flush=True); input()'])\n"
        "threading.Thread(target=start).start()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()
        assert len(list_descendants(process.pid)) == 1
        process.communicate(b"\n")
    assert list_descendants(process.pid) == []


def test_measured_processes_keep_their_bytecode(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert "PYTHONDONTWRITEBYTECODE" not in build_environment()
    assert build_environment()["KERAS_BACKEND"] == "torch"
    assert build_environment(KERAS_BACKEND="jax")["KERAS_BACKEND"] == "jax"
    assert os.environ["PYTHONDONTWRITEBYTECODE"] == "1"


def test_a_rate_is_images_over_seconds_of_batches_in_turn(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    seen = []

    def run(batches):
        for batch in batches:
            seen.append(batch[0])
            now[0] += 2.0
            yield batch

    batches = [np.full(8, 0), np.full(8, 1)]
    assert measure_rate(run, batches, 5.0) == 24 / 6
    assert seen == [0, 1, 0]


def test_candidates_alternate():
    order = []
    candidates = {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}
    assert measure_in_turn(candidates, 2) == {"a": [1, 3], "b": [2, 4]}


def test_ratios_are_of_the_same_round():
    assert to_ratios([20.0, 30.0], [10.0, 5.0]) == [2.0, 6.0]
    assert to_range([2.0, 6.0, 3.0], 1) == "3.0 (2.0 to 6.0)"
    assert to_range([1234.5], 0) == "1,234"
