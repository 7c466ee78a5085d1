"""How predict scales on Ray, by hand: `python -m tests.cluster.scale --images 20000 --folder /tmp/scale`.

Phantom images in files through the real network at 75 px: on this machine without Ray, with it, with the
actor that scores killed in the middle, and on two nodes on loopback. Then the memory of whoever asks for
results, over numbers of images that nobody has. What is made in the folder is used again.
"""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
from tabulate import tabulate

from pneumo_keras.cluster.connection import open_cluster
from pneumo_keras.cluster.ordered_map import Stage, map_in_order
from tests.bench.measuring import build_environment, to_command
from tests.bench.predict_rate import measure_predict, open_images, write_images
from tests.cluster import toys

RAY = str(Path(sys.executable).with_name("ray"))

# What is compared: a name, `compute.cluster`, whether an actor is killed, and how many nodes are started.
WAYS = (
    ("one machine", "none", False, 0),
    ("ray", "ray", False, 0),
    ("ray, actor killed", "ray", True, 0),
    ("ray, two nodes", "ray", False, 2),
    ("ray, two nodes, actor killed", "ray", True, 2),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--simulated", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--engine", default="auto")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.folder)
    prepare(asked.images, asked.engine)
    say(compare(asked.images, asked.engine))
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, fresh, max_tasks_per_child=1) as processes:
        say(processes.map(measure_driver, asked.simulated))


def say(rows):
    shown = []
    for row in rows:
        sys.stderr.write(f"{row}\n")
        shown.append(row)
    sys.stdout.write(tabulate(shown, headers="keys", floatfmt=".1f") + "\n")
    sys.stdout.flush()


def prepare(images, engine):
    """A run, and the images."""
    if not Path(f"run-{engine}").exists():
        call("train", "--config", "demo", "--set", f"compute.engine={engine}", "--run", f"run-{engine}")
    write_images(Path("images"), images, open_images(None, images, 28))


def call(*arguments):
    subprocess.run(to_command("-q", *arguments), check=True, capture_output=True)


def compare(images, engine):
    run = f"run-{engine}"
    whole = None
    for name, cluster, kill, nodes in WAYS:
        with start_nodes(nodes) as environment:
            done, killed = predict(run, images, cluster, kill, environment)
        whole = whole or done.text
        yield {
            "how": name,
            "seconds in all": done.usage.seconds,
            "images/s once it runs": done.rate,
            "killed": killed,
            "rows": done.text.count(b"\n") - 1,
            "the same bytes": done.text == whole,
        }


def predict(run, images, cluster, kill, environment):
    """What `predict` took, and the actor that was killed when a third of the images were scored."""
    killed = None

    def watch(rows):
        nonlocal killed
        if kill and killed is None and rows >= images // 3:
            killed = kill_actor()

    own = build_environment(**environment)
    done = measure_predict(run, ["images"], images, "--cluster", cluster, environment=own, watch=watch)
    return done, killed


def kill_actor():
    """Ends the actor with the most memory, which is one that scores."""
    actors = []
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::MapWorker") and is_ours(process):
            actors.append((process.info["memory_info"].rss, process.pid))
    _, pid = max(actors)
    os.kill(pid, signal.SIGKILL)
    return pid


def is_ours(process):
    return process.cwd() == str(Path.cwd())


@contextlib.contextmanager
def start_nodes(count):
    """Nodes of one core each, joined on loopback; the environment of whoever uses them."""
    if not count:
        yield {"RAY_ADDRESS": ""}
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    open_to_all = {"RAY_AUTH_MODE": "disabled"}  # on loopback
    quiet = {**os.environ, **open_to_all, "RAY_USAGE_STATS_ENABLED": "0"}
    head = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    nodes = []
    try:
        for place in range(count):
            role = head if place == 0 else [f"--address={address}", "--node-ip-address=127.0.0.1"]
            command = [RAY, "start", "--block", "--num-cpus=1", *role]
            nodes.append(subprocess.Popen(command, env=quiet, stdout=subprocess.DEVNULL))
            wait_for(address)
        time.sleep(10)  # for the other nodes to be known
        yield {**open_to_all, "RAY_ADDRESS": address}
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(60)


def wait_for(address):
    host, port = address.split(":")
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.1)
    raise TimeoutError(address)


def measure_driver(images):
    """Images that are names alone, through both stages."""
    process = psutil.Process()
    names = [f"images/{index:09}.png" for index in range(images)]
    stages = [Stage(toys.build_passing), Stage(toys.build_scoring, whole=True)]
    begun, most, count = time.monotonic(), 0, 0
    with open_cluster():
        for _ in map_in_order(names, stages, block=256):
            count += 1
            if count % 3200 == 0:
                held = process.memory_info()
                most = max(most, held.rss - held.shared)  # the object store is shared memory
    return {
        "simulated images": count,
        "seconds": time.monotonic() - begun,
        "driver, own MB at most": most / 1e6,
        "driver, peak RSS MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


if __name__ == "__main__":
    main()
