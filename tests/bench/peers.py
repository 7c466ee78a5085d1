"""The frozen network of this project against its peers, by hand.

python -m tests.bench.peers --weights FILE --json peers.json

Every peer takes the same float32 images (n, size, size, 3) in [-1, 1] and returns the same pooled feature
layers in float32, in a process of its own that stands still while another one is measured. Prints a table
for docs/benchmarks.md; of torch, torchvision and TensorFlow it says where they are not installed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

from pneumo_keras.config import load_config
from pneumo_keras.runs.environment import describe_environment
from tests.bench.measuring import (
    build_environment,
    format_markdown,
    measure_in_turn,
    say,
    to_range,
    to_ratios,
)

MODULES = ("keras", "jax", "tensorflow", "torch", "torchvision", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Peer:
    """A network to measure.

    Attributes:
        title: In the table.
        builder: In `tests.bench.peer_networks.BUILDERS`.
        options: What the builder takes.
        backend: Of Keras in its process.
        needs: Modules, beside those of this project.
    """

    title: str
    builder: str
    options: dict[str, Any] = field(default_factory=dict)
    backend: str = "jax"
    needs: tuple[str, ...] = ()


def list_torch_peers() -> dict[str, Peer]:
    """Torchvision's network in both precisions, with and without what may make it faster."""
    peers = {}
    for precision, last, compiled in product(("float32", "bfloat16"), (False, True), (False, True)):
        name = f"torch-{precision}{'-last' * last}{'-compiled' * compiled}"
        title = f"torchvision {precision}{', channels_last' * last}{', torch.compile' * compiled}"
        options = dict(precision=precision, channels_last=last, compiled=compiled)
        peers[name] = Peer(title, "torchvision", options, "torch", ("torch", "torchvision"))
    return peers


PEERS = {
    "keras-jax": Peer("stock Keras on JAX", "keras"),
    "keras-tensorflow": Peer("stock Keras on TensorFlow", "keras", {}, "tensorflow", ("tensorflow",)),
    **list_torch_peers(),
    "onnxruntime": Peer("ONNX Runtime float32", "onnxruntime"),
    "benchmark-float32": Peer("benchmark_app float32", "benchmark_app", {"precision": "f32"}),
    "benchmark-bfloat16": Peer("benchmark_app bfloat16", "benchmark_app", {"precision": "bf16"}),
    **{
        f"{engine}-{precision}": Peer(
            f"**engine {engine} {precision}**", "engine", {"engine": engine, "precision": precision}
        )
        for engine, precision in (("jax", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))
    },
}


class PeerProcess:
    """A peer in a process of its own, built and warm, which only runs while it measures."""

    def __init__(self, peer: Peer, network: dict[str, Any]) -> None:
        """Waits until it is warm; a RuntimeError where it cannot be built."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.peer_networks"],
            env=build_environment(KERAS_BACKEND=peer.backend),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.operations = self._ask({"builder": peer.builder, "options": peer.options, "network": network})
        self._process.send_signal(SIGSTOP)

    def measure(self, seconds: float) -> float:
        """Images a second."""
        self._process.send_signal(SIGCONT)
        rate = self._ask(seconds)
        self._process.send_signal(SIGSTOP)
        return rate

    def end(self) -> None:
        """Lets it end by itself, since there is nothing more to measure."""
        self._process.send_signal(SIGCONT)
        self._process.communicate()
        self._errors.close()

    def _ask(self, question: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{json.dumps(question)}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            self.end()
            raise RuntimeError(" ".join(lines[-1:])[:200])
        return json.loads(answer)


def find_missing(peer: Peer) -> str:
    """The first module that a peer lacks; "" if it has all."""
    return next((module for module in peer.needs if find_spec(module) is None), "")


def describe_machine() -> dict[str, Any]:
    """Versions of all that is measured, commit and processor."""
    owners, about = packages_distributions(), describe_environment()
    versions = {module: version(owners[module][0]) for module in MODULES if module in owners}
    return {**{key: about[key] for key in ("revision", "processor", "cores")}, "versions": versions}


def start_peers(names: list[str], network: dict[str, Any]) -> tuple[dict[str, PeerProcess], dict[str, str]]:
    """The peers that run, and why the others do not."""
    processes, reasons = dict[str, PeerProcess](), dict[str, str]()
    for name in names:
        say(f"warming up {name}")
        if missing := find_missing(PEERS[name]):
            reasons[name] = f"not installed ({missing})"
            continue
        try:
            processes[name] = PeerProcess(PEERS[name], network)
        except RuntimeError as error:
            reasons[name] = f"does not run: {error}"
    return processes, reasons


def list_rows(rates: dict[str, list[float]], reasons: dict[str, str], base: str) -> list[tuple[str, ...]]:
    """Peers in their order, with median and range of rates and of ratios to one of them."""
    rows = []
    for name, peer in PEERS.items():
        if name in rates:
            ratios = to_ratios(rates[name], rates[base]) if base in rates else [float("nan")]
            rows.append((peer.title, to_range(rates[name], 1), to_range(ratios, 2)))
        elif name in reasons:
            rows.append((peer.title, reasons[name], "-"))
    return rows


def main() -> None:
    default = load_config("default").model
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", default="none", help="of all but torchvision's network")
    parser.add_argument("--image-size", type=int, default=default.image_size)
    parser.add_argument("--feature-layers", nargs="+", default=default.feature_layers)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a window")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    options = parser.parse_args()
    network = {key: getattr(options, key) for key in ("weights", "image_size", "feature_layers", "batch")}
    processes, reasons = start_peers(options.peers, network)
    try:
        work = {name: process.operations for name, process in processes.items()}
        assert len(set(work.values())) == 1, f"Peers do different work: {work}"
        measures = {name: partial(process.measure, options.seconds) for name, process in processes.items()}
        rates = measure_in_turn(measures, options.rounds)
    finally:
        for process in processes.values():
            process.end()
    rows, machine = list_rows(rates, reasons, "keras-jax"), describe_machine()
    table = format_markdown(("network", "images/s", "of stock Keras on JAX"), rows)
    sys.stdout.write(f"{table}\n\n{network}\n{machine}\n")
    if options.json:
        about = {**machine, "network": network, "seconds": options.seconds, "left_out": reasons}
        peers = {name: {**asdict(PEERS[name]), "rates": rates[name]} for name in rates}
        options.json.write_text(json.dumps({**about, "peers": peers}, indent=2))


if __name__ == "__main__":
    main()
