"""Commands whose stdin, stdout or stderr is closed, full or cut off, and whose memory is limited."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLOSED = "Error: stdout is closed, and results are printed there. Send it to a file, or to /dev/null.\n"


@pytest.fixture
def shell(tmp_path):
    """Runs a command of ours in the working folder, with what a shell may put behind it."""

    def shell(command, behind="", before=""):
        words = f"{shlex.quote(sys.executable)} -m pneumo_keras {command} {behind}"
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {before} {words}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )

    return shell


@pytest.fixture
def image(run, tmp_path):
    """A run, and an image."""
    Image.fromarray(np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)).save(tmp_path / "image.png")
    return "image.png"


@pytest.mark.parametrize("command", ["config list", "--help", "train --help", "--version", "cache list"])
def test_a_closed_stdout_is_one_line(shell, command):
    for behind in (">&-", "<&- >&-"):
        done = shell(command, behind)
        assert (done.returncode, done.stderr) == (1, CLOSED)
    assert shell(command, "<&- >&- 2>&-").returncode == 1
    assert shell(command, "<&- 2>&-").returncode == 0


@pytest.mark.parametrize("command", ["config list", "--help", "config show demo --json"])
def test_a_full_stdout_is_one_line(shell, command):
    done = shell(command, ">/dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: No space left on device. ")


def test_a_reader_that_has_seen_enough_is_no_fault(shell):
    done = shell("config show default", "| head -c 20")
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    assert len(done.stdout) == 20


def test_a_prediction_needs_no_more_streams_than_it_uses(shell, image, tmp_path):
    listed = shell("-q predict run -", "<&-")
    assert (listed.returncode, listed.stderr) == (
        1,
        "Error: PATH - needs a list on stdin, one name a line. Received: stdin is closed\n",
    )
    silent = shell(f"-q predict run {image}", "<&- >&-")
    assert (silent.returncode, silent.stderr) == (1, CLOSED)
    written = shell(f"predict run {image} --out scores.csv", "<&- >&- 2>&-")
    assert written.returncode == 0
    header, row = (tmp_path / "scores.csv").read_text().splitlines()
    assert header.startswith("path,probability,") and row.startswith(f"{image},")
    assert 0 <= float(row.split(",")[1]) <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such limit")
@pytest.mark.parametrize("command", ["predict run image.png", "eval run"])
def test_memory_that_is_limited_is_one_line_and_no_damage(shell, image, command):
    done = shell(f"-q {command}", before="ulimit -v 1000000;")
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "Error: Memory is limited to 1.0 GB for this process (ulimit -v), and the frozen network takes 1.8 "
        "before any work. Raise the limit.\n",
    )
