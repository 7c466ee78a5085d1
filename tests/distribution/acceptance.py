"""The demo fitted online by one device, by eight, and by two processes; then what happens when one is lost.

    python -m tests.distribution.acceptance FOLDER

Takes minutes. Prints the largest differences from one device, and how many seconds after a kill the other
process ended, with what line.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ONLINE = ["--config", "demo", "--set", "training.mode=online", "--set", "augmentation.views=0"]
SAME = ("history.csv", "scores_val.csv", "metrics_val.json", "model.keras", "guard.npz")


def start(run, *arguments, devices=1, rank=None, port=0):
    """A training that runs by itself, with its log beside the run."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    # Each process as if it were on a host of its own.
    environment["PNEUMO_KERAS_CACHE"] = str(run.parent / f"cache{rank or 0}")
    together = [] if rank is None else ["processes=2", f"coordinator=127.0.0.1:{port}", f"rank={rank}"]
    settings = [part for one in together for part in ("--set", f"compute.{one}")]
    command = [sys.executable, "-m", "pneumo_keras", "train", *arguments, *settings, "--run", str(run)]
    with to_log(run, rank).open("w") as log:
        return subprocess.Popen(command, env=environment, cwd=run.parent, stdout=log, stderr=log)


def to_log(run, rank):
    return run.with_suffix(f".{rank or 0}.log")


def start_two(run, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(run, *arguments, rank=rank, port=port) for rank in range(2)]


def read_run(run):
    """Losses, scores and weights of a run."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = np.array([[float(row["loss"]), float(row["val_loss"])] for row in rows])
    scores = np.loadtxt(run / "scores_val.csv", delimiter=",", skiprows=1)[:, 2]
    return losses, scores, keras.saving.load_model(run / "model.keras", compile=False).get_weights()


def compare(run, one):
    (losses, scores, weights), (others, other_scores, other_weights) = read_run(run), read_run(one)
    pairs = zip(weights, other_weights, strict=True)
    return {
        "losses": float(np.abs(losses - others).max()),
        "scores": float(np.abs(scores - other_scores).max()),
        "weights": max(float(np.abs(mine - theirs).max()) for mine, theirs in pairs),
    }


def await_line(run, text):
    while text not in to_log(run, 0).read_text():
        time.sleep(0.2)


def disturb(run, victim, number, text, *arguments, worker=False):
    """Sends a signal to one of two processes once the first has said a text: how both end."""
    processes = start_two(run, *arguments)
    await_line(run, text)
    time.sleep(2)
    pid = processes[victim].pid
    if worker:
        pid = int(subprocess.check_output(["pgrep", "-P", str(pid)]))
    os.kill(pid, number)
    begun = time.monotonic()
    statuses = [process.wait(timeout=300) for process in processes]
    lines = [to_log(run, rank).read_text().splitlines()[-1] for rank in range(2)]
    return {"statuses": statuses, "seconds": round(time.monotonic() - begun, 1), "last lines": lines}


def main():
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    one, eight, two = (folder / name for name in ("one", "eight", "two"))
    start(one, *ONLINE).wait()
    start(eight, *ONLINE, devices=8).wait()
    processes = start_two(two, *ONLINE)
    found = {
        "statuses of two processes": [process.wait() for process in processes],
        "said by the second": to_log(two, 1).read_text(),
        "eight devices": compare(eight, one),
        "two processes": compare(two, one),
    }
    stopped = folder / "stopped"
    found["stopped"] = disturb(stopped, 1, signal.SIGTERM, "Epoch 2 of", *ONLINE)
    resumed = start_two(stopped, "--resume")
    found["resumed"] = [process.wait() for process in resumed]
    found["the same bytes"] = {n: (stopped / n).read_bytes() == (two / n).read_bytes() for n in SAME}
    slow = [*ONLINE, "--set", "data.phantom_films=[3000,160,40]"]
    fitting, alone = "Epoch 1 of", "To pass the network"
    for name, victim, text, worker in (
        ("second killed in the fit", 1, fitting, True),
        ("first killed in the fit", 0, fitting, True),
        ("second killed while the first works alone", 1, alone, True),
        ("watcher of the first killed meanwhile", 0, alone, False),
    ):
        settings = ONLINE if text == fitting else [*slow, "--set", f"seed={victim}"]
        run = folder / name.replace(" ", "_")
        found[name] = disturb(run, victim, signal.SIGKILL, text, *settings, worker=worker)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
