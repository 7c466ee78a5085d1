"""The demo fitted online by one device, by eight, and by two processes; then what happens when one is lost.

    python -m tests.distributed.acceptance FOLDER

Takes minutes. Prints the largest differences from one device, and how many seconds after a kill the other
process ended, with what line. Ends with status 1 where differences exceed 1e-5, bytes differ after --resume,
or a process that lost the other one takes more than a minute or says more or less than its one line.
"""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ONLINE = ["--config", "demo", "--set", "training.mode=online", "--set", "augmentation.views=0"]
CLOSE, SECONDS = 1e-5, 60
SAME = ("history.csv", "scores_val.csv", "metrics_val.json", "model.keras", "ood_detector.npz")


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


def find_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_two(run, *arguments):
    port = find_port()
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


def await_line(run, text, process):
    while text not in to_log(run, 0).read_text():
        if process.poll() is not None:
            raise SystemExit(f"The first process ended before '{text}': {to_log(run, 0).read_text()[-500:]}")
        time.sleep(0.2)


def disturb(run, victim, number, text, *arguments, worker=False):
    """Sends a signal to one of two processes once the first has said a text: how both end.

    Returns:
        Their statuses, the seconds until both had ended, and the errors each has told in its log.
    """
    processes = start_two(run, *arguments)
    await_line(run, text, processes[0])
    time.sleep(2)
    pid = processes[victim].pid
    if worker:
        pid = int(subprocess.check_output(["pgrep", "-P", str(pid)]))
    os.kill(pid, number)
    begun = time.monotonic()
    statuses = [process.wait(timeout=300) for process in processes]
    seconds = round(time.monotonic() - begun, 1)
    said = [read_errors(run, rank) for rank in range(2)]
    return {"victim": victim, "statuses": statuses, "seconds": seconds, "said": said}


def read_errors(run, rank):
    """What a process said but for the lines of its log, which begin with the time."""
    lines = to_log(run, rank).read_text().splitlines()
    return [line for line in lines if not re.match(r"\d\d:\d\d:\d\d ", line)]


def list_faults(found):
    """What is not as docs/distributed.md promises, in words."""
    faults = [
        f"{name}: {what} differ by {difference}"
        for name in ("eight devices", "two processes")
        for what, difference in found[name].items()
        if not difference <= CLOSE
    ]
    if found["statuses"] != [0, 0] or found["said by the second"]:
        faults.append("two processes: they did not both end well, the second in silence")
    if found["stopped"]["statuses"] != [143, 143]:
        faults.append("stopped: the statuses are not 143")
    faults += [
        f"resumed: {name} has other bytes" for name, same in found["the same bytes"].items() if not same
    ]
    for name, end in found["killed"].items():
        status, said = (end[what][1 - end["victim"]] for what in ("statuses", "said"))
        if status != 1 or end["seconds"] > SECONDS:
            faults.append(f"{name}: the other did not end with status 1 within {SECONDS} s")
        if len(said) != 1 or f"Process {end['victim']} of the training was lost" not in said[0]:
            faults.append(f"{name}: the other did not say so in one line")
    return faults


def main():
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    one, eight, two = (folder / name for name in ("one", "eight", "two"))
    start(one, *ONLINE).wait()
    start(eight, *ONLINE, devices=8).wait()
    processes = start_two(two, *ONLINE)
    found = {
        "statuses": [process.wait() for process in processes],
        "said by the second": to_log(two, 1).read_text(),
        "eight devices": compare(eight, one),
        "two processes": compare(two, one),
    }
    stopped = folder / "stopped"
    found["stopped"] = disturb(stopped, 1, signal.SIGTERM, "Epoch 2 of", *ONLINE)
    found["resumed"] = [process.wait() for process in start_two(stopped, "--resume")]
    found["the same bytes"] = {n: is_same(stopped / n, two / n) for n in SAME}
    found["killed"] = {}
    slow = [*ONLINE, "--set", "data.phantom_images=[3000,160,40]"]
    fitting, alone = "Epoch 1 of", "To pass the network"
    for name, victim, text, worker in (
        ("second killed in the fit", 1, fitting, True),
        ("first killed in the fit", 0, fitting, True),
        ("second killed while the first works alone", 1, alone, True),
        ("launcher of the first killed meanwhile", 0, alone, False),
    ):
        settings = ONLINE if text == fitting else [*slow, "--set", f"seed={victim}"]
        run = folder / name.replace(" ", "_")
        found["killed"][name] = disturb(run, victim, signal.SIGKILL, text, *settings, worker=worker)
    found["faults"] = list_faults(found)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    raise SystemExit(1 if found["faults"] else 0)


def is_same(mine, theirs):
    return mine.is_file() and mine.read_bytes() == theirs.read_bytes()


if __name__ == "__main__":
    main()
