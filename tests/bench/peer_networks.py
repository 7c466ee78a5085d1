"""The networks that `tests.bench.peers` measures, each in a process that this module is.

It reads what to build from a line of stdin, answers with the operations that an image takes, then measures
for as many seconds as each further line says. Imports only what its peer needs.
"""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_keras.engines.runner import run_ahead
from tests.bench.measuring import measure_rate

Built = tuple[Callable[[float], float], int]
"""What measures for some seconds, in images a second; and the operations of an image."""

# Where torchvision's network has Keras' feature layers mixed0, mixed1, ...
BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


def to_block(feature_layer: str) -> str:
    """Torchvision's name of a feature layer."""
    return f"Mixed_{BLOCKS[int(feature_layer.removeprefix('mixed'))]}"


def build_torchvision(
    network: dict[str, Any], *, precision: str, channels_last: bool, compiled: bool
) -> Built:
    """Torchvision's InceptionV3 cut behind the last feature layer, as fast as its options make it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from torchvision.models import inception_v3
    from torchvision.models.feature_extraction import create_feature_extractor

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    whole = inception_v3(weights=None, aux_logits=False, init_weights=False).eval()
    cut = create_feature_extractor(whole, [to_block(layer) for layer in network["feature_layers"]])
    kind = getattr(torch, precision)
    order = torch.channels_last if channels_last else torch.contiguous_format
    cut = cut.to(kind, memory_format=order)

    def compute(images: Any) -> Any:
        return torch.cat([maps.mean((2, 3)) for maps in cut(images).values()], 1)

    # Freezing folds BatchNorm into the convolutions and lays out their weights once.
    program = torch.compile(compute, options={"freezing": True}) if compiled else compute

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            maps = torch.from_numpy(images).permute(0, 3, 1, 2).to(kind).contiguous(memory_format=order)
            return program(maps).float().numpy()

    size = network["image_size"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        compute(torch.zeros(1, 3, size, size, dtype=kind))
    return to_measure(functools.partial(run_ahead, run), network), counter.get_total_flops()


def to_measure(
    runner: Callable[..., Iterator[np.ndarray]], network: dict[str, Any]
) -> Callable[[float], float]:
    """What measures a runner on a batch in memory, once it is warm and its features are known to be sound."""
    size = network["image_size"]
    images = np.random.default_rng(0).uniform(-1, 1, (network["batch"], size, size, 3)).astype(np.float32)
    features = next(runner([images]))
    assert features.shape[0] == len(images) and np.isfinite(features).all() and features.std() > 0
    return functools.partial(measure_rate, runner, [images])


def build_backbone(network: dict[str, Any]) -> Any:
    from pneumo_keras.model.backbone import build_backbone

    return build_backbone(
        network["weights"], image_size=network["image_size"], feature_layers=network["feature_layers"]
    )


def build_keras(network: dict[str, Any]) -> Built:
    """Stock Keras, on the backend of this process."""
    from pneumo_keras.model.backbone import count_operations

    backbone = build_backbone(network)
    return to_measure(functools.partial(run_ahead, backbone.predict_on_batch), network), count_operations(
        backbone
    )


def build_engine(network: dict[str, Any], *, engine: str, precision: Any) -> Built:
    """An engine of this project."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.runtime.backend import start_backend

    start_backend(find_cache())
    from pneumo_keras.engines.choice import build_runner
    from pneumo_keras.model.backbone import count_operations

    backbone = build_backbone(network)
    runner = build_runner(backbone, engine=engine, precision=precision)
    return to_measure(runner, network), count_operations(backbone)


def write_graph(network: dict[str, Any]) -> tuple[bytes, int]:
    """The network in the ONNX form that this project writes, and its operations."""
    from pneumo_keras.engines.graph import read_graph
    from pneumo_keras.engines.onnx import write_onnx
    from pneumo_keras.model.backbone import count_operations

    backbone = build_backbone(network)
    return write_onnx(read_graph(backbone)), count_operations(backbone)


def build_onnxruntime(network: dict[str, Any]) -> Built:
    """ONNX Runtime with a thread a core."""
    import onnxruntime

    graph, operations = write_graph(network)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        return session.run(None, {"images": images})[0]

    return to_measure(functools.partial(run_ahead, run), network), operations


def build_benchmark_app(network: dict[str, Any], *, precision: str) -> Built:
    """OpenVINO's own measurement of the same graph, an image a request and as many of them as it chooses."""
    graph, operations = write_graph(network)
    folder = tempfile.TemporaryDirectory()  # until the process ends
    size, program = network["image_size"], Path(sys.executable).with_name("benchmark_app")
    Path(folder.name, "network.onnx").write_bytes(graph)
    options = [
        "-d",
        "CPU",
        "-hint",
        "throughput",
        "-infer_precision",
        precision,
        "-shape",
        f"[1,{size},{size},3]",
    ]

    def measure(seconds: float) -> float:
        command = [program, "-m", f"{folder.name}/network.onnx", *options, "-t", str(max(1, round(seconds)))]
        return parse_throughput(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return measure, operations


def parse_throughput(text: str) -> float:
    """Images a second, from what benchmark_app prints."""
    found = re.search(r"Throughput: +([\d.]+) FPS", text)
    if not found:
        raise ValueError(f"No throughput in: {text[-300:]}")
    return float(found[1])


BUILDERS: dict[str, Callable[..., Built]] = {
    "torchvision": build_torchvision,
    "keras": build_keras,
    "engine": build_engine,
    "onnxruntime": build_onnxruntime,
    "benchmark_app": build_benchmark_app,
}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    asked = json.loads(sys.stdin.readline())
    measure, operations = BUILDERS[asked["builder"]](asked["network"], **asked["options"])
    measure(1.0)
    answers.write(f"{operations}\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(f"{measure(float(line))}\n")
        answers.flush()


if __name__ == "__main__":
    main()
