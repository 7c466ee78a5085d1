"""Kills trainings at random moments and resumes them: all must end in the same bytes.

`python -m tests.faults.kills 50` in the root of the checkout does it fifty times and prints a line for each.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.small import SMALL

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
BEGUN = "Training images:"  # a line of the log, before which a process does nothing but import
MODES = {
    "cached": [*SMALL, "training.epochs=12"],
    "online": [*SMALL, "training.epochs=12", "training.mode=online", "augmentation.views=0"],
}


@dataclass(frozen=True)
class Trial:
    """What became of a training that was killed.

    Attributes:
        kills: How often, by the signals' names.
        epochs: Where it stood each time, as its log says when it goes on.
        differing: Files that do not hold the bytes of a training that was never killed.
        faults: Wrong exit statuses, tracebacks and the like.
    """

    kills: list[str]
    epochs: list[str]
    differing: list[str]
    faults: list[str]


def start(folder, mode, cache, *, resume):
    """Starts a training, or goes on with it."""
    settings = [part for setting in MODES[mode] for part in ("--set", setting)]
    arguments = [
        "train",
        "--config",
        "demo",
        *settings,
        "--run",
        str(folder),
        *(["--resume"] if resume else []),
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.toy_train", *arguments],
        cwd=ROOT,
        env={**os.environ, "PNEUMO_KERAS_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_run(folder):
    """All that must be the same: but for the commit, which may be another one by the time of a resume."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "train.log"}
    environment = json.loads(found.pop("environment.json"))
    lines = found.pop("manifest.sha256").decode().splitlines()
    found["environment.json"] = {name: value for name, value in environment.items() if name != "revision"}
    found["manifest.sha256"] = [line for line in lines if not line.endswith("environment.json")]
    return found


def train_whole(folder, mode, cache):
    """A training that nobody kills: what its run holds, and the seconds that it works."""
    process = start(folder, mode, cache, resume=False)
    lines = []
    begun = None
    for line in process.stderr:
        lines.append(line)
        if BEGUN in line:
            begun = time.monotonic()
    end(process)
    if process.returncode:
        raise RuntimeError("".join(lines))
    return read_run(folder), time.monotonic() - begun


def kill_and_resume(folder, mode, cache, whole, seconds, rng):
    """Kills a training once or twice, then lets it come to its end."""
    kills, epochs, faults = [], [], []
    for attempt in range(rng.choice((1, 1, 2)) + 1):
        process = start(folder, mode, cache, resume=attempt > 0)
        last = attempt == 2 or (attempt == 1 and rng.random() < 0.7)
        number = None if last else rng.choice(SIGNALS)
        text = watch(process, number, rng.uniform(0, seconds))
        epochs += [
            line.partition("Continuing after ")[2] for line in text.splitlines() if "Continuing" in line
        ]
        faults += check(process.returncode, text, number, folder)
        if number is None or process.returncode == 0:
            break
        kills.append(number.name)
    if process.returncode:  # the last one was killed, too
        process = start(folder, mode, cache, resume=True)
        text = watch(process, None, 0)
        faults += check(process.returncode, text, None, folder)
    found = read_run(folder)
    differing = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
    return Trial(kills, epochs, differing, faults)


def watch(process, number, delay):
    """Reads what a process says, and sends it a signal some time after it has begun to work."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if number is not None and BEGUN in line:
            time.sleep(delay)
            process.send_signal(number)
    end(process)
    return "".join(lines)


def end(process):
    """Waits for a process that has said all it had to say."""
    process.wait()
    process.stdout.close()
    process.stderr.close()


def check(status, text, number, folder):
    """What is wrong about how a process ended."""
    told = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL, None: 0}[number]
    faults = [] if status in (told, 0) else [f"status {status} after {number}: {text[-300:]}"]
    if "Traceback" in text or "Exception ignored" in text:
        faults.append(f"traceback after {number}: {text[-2000:]}")
    if status in (130, 143) and f"--run {folder} --resume" not in text:
        faults.append(f"no way on is told: {text[-300:]}")
    return faults


def run(count, *, seed=0):
    """Tries it `count` times over both modes; yields a trial each."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        wholes = {}
        for mode in MODES:
            # Compiled programs are not the matter here; features and images are made anew each time.
            train_whole(parent / f"warm-{mode}", mode, parent / "cache")
            shutil.copytree(parent / "cache" / "jax", parent / "cold" / "jax", dirs_exist_ok=True)
        for mode in MODES:
            shutil.copytree(parent / "cold", parent / f"cache-{mode}")
            wholes[mode] = train_whole(parent / f"whole-{mode}", mode, parent / f"cache-{mode}")
        for index in range(count):
            mode = list(MODES)[index % 2]
            cache, folder = parent / f"cache-{index}", parent / f"run-{index}"
            shutil.copytree(parent / "cold", cache)
            yield mode, kill_and_resume(folder, mode, cache, *wholes[mode], rng)
            shutil.rmtree(cache)


if __name__ == "__main__":
    for at, (of, trial) in enumerate(run(int(sys.argv[1])), start=1):
        print(at, of, trial, flush=True)  # noqa: T201
