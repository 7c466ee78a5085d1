"""What a terminal shows, where stdout, log lines and bars meet."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LOGGED = re.compile(r"\d\d:\d\d:\d\d ")


@pytest.fixture
def images(run, tmp_path):
    """A folder of images next to a run."""
    (tmp_path / "images").mkdir()
    for index, value in enumerate((40, 120, 200)):
        Image.fromarray(np.full((40, 40), value, np.uint8)).save(tmp_path / "images" / f"{index}.png")


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "eval run",
        "predict run images",
        "predict run images --format table",
        "predict run images --sort uncertainty",
        "explain run images",
        "data audit --config demo",
    ],
)
def test_no_log_line_is_inside_a_table(invoke, images, small, warm_cache, command):
    result = invoke(*command.split(), *(small if command == "train" else ()))
    assert result.exit_code == 0, result.output
    lines = result.output.rstrip().splitlines()
    printed = [index for index, line in enumerate(lines) if not LOGGED.match(line)]
    inside = lines[printed[0] : printed[-1] + 1]
    assert len(printed) > 2 and len(printed) < len(lines)
    assert [line for line in inside if LOGGED.match(line)] == []


def test_steps_that_take_seconds_are_logged_before_they_begin(invoke, small, warm_cache):
    logged = invoke("train", *small, "--run", "run").stderr + invoke("eval", "run").stderr
    steps = [
        "Fitting: 2 epochs",
        "Computing figures",
        "Writing the run",
        "Computing figures",
        "Drawing plots",
    ]
    assert re.findall("|".join(sorted(set(steps))), logged) == steps


def show(command, folder):
    """The lines on a terminal of 80 columns when a command has ended."""
    terminal, stream = pty.openpty()
    fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "pneumo_keras", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
    )
    os.close(stream)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


@pytest.mark.system
@pytest.mark.parametrize("command", ["predict run images --sort probability", "explain run images"])
def test_no_line_begins_behind_a_bar(images, tmp_path, command):
    shown = show(command.split(), tmp_path)
    assert re.search(r"\r(Scoring|Explaining): \d images \[[^]\r]*\]\r", shown)
    assert re.findall(r"images/s\][^\r]+", shown) == []
