"""The backbone on OpenVINO: the same features as Keras, several times faster on a CPU.

OpenVINO reads the ONNX model, which is written in memory in a fraction of a second.
"""

import functools
from collections import deque
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import Features
from pneumo_keras.engines.graph import read_graph
from pneumo_keras.engines.onnx import write_onnx
from pneumo_keras.engines.runner import ImageStream, Runner
from pneumo_keras.engines.table import Precision
from pneumo_keras.errors import BackendError
from pneumo_keras.runtime.backend import import_openvino

SPARE_REQUESTS = 8  # beyond those computing: work in hand while the caller prepares more


@functools.cache
def _start_core() -> Any:
    """OpenVINO, which stays until the process ends.

    On CPUs with AVX-512 it gives the thread that starts it a signal stack, and frees that with its last
    reference. If another thread dropped this one, the next signal, such as Ctrl-C, would crash the process.
    """
    return import_openvino().Core()


def build_runner(backbone: keras.Model, *, precision: Precision) -> Runner:
    """Compiles a frozen backbone for throughput on the CPU.

    Raises:
        BackendError: The CPU lacks the precision; with bfloat16 only some are faster.
        ModelError: The backbone has something that has no exact rewriting.
    """
    core = _start_core()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError(
            "The engine 'openvino' finds no bfloat16 arithmetic in this CPU. Choose the precision "
            "float32. Received: bfloat16"
        )
    model = core.read_model(write_onnx(read_graph(backbone)))
    model.reshape([1, *model.input().partial_shape[1:]])
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    return functools.partial(_run, core.compile_model(model, "CPU", settings))


def _run(compiled: Any, batches: ImageStream) -> Iterator[Features]:
    """Features of each batch, in order, computed while the caller prepares the next ones; images are copied.

    Every image is a request of its own: no slower than batches, and its features do not depend on the images
    that it came with. Requests are reused as they end, the oldest first; Python callbacks, which
    AsyncInferQueue needs, may still wait for the interpreter when it shuts down, and then abort the process.
    """
    count, d = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"), compiled.output(0).shape[1]
    idle = [compiled.create_infer_request() for _ in range(count + SPARE_REQUESTS)]
    # Requests with their rows; behind those of a batch None with all of its rows.
    queue: deque[tuple[Any, np.ndarray]] = deque()

    def take() -> Iterator[Features]:
        request, features = queue[0]
        if request:
            request.wait()
            features[:] = request.get_output_tensor().data[0]
            idle.append(request)
        queue.popleft()
        if not request:
            yield features

    try:
        for images in batches:
            features = np.empty((len(images), d), np.float32)
            for image, row in zip(images, features, strict=True):
                while not idle:
                    yield from take()
                request = idle.pop()
                request.start_async({0: image[None]})
                queue.append((request, row))
            queue.append((None, features))
        while queue:
            yield from take()
    finally:
        for request, _ in queue:
            if request:
                request.wait()
