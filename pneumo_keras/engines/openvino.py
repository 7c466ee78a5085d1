"""The backbone on OpenVINO: the same features as Keras, several times faster on a CPU.

OpenVINO reads the ONNX model, which is written in memory in a fraction of a second.
"""

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class OpenVinoRunner:
    """A compiled backbone.

    Every image is a request of its own: no slower than batches, and its features do not depend on
    the images it came with.

    Attributes:
        compiled: Image (1, size, size, 3) -> features (1, d).
    """

    compiled: Any

    def __call__(self, batches: ImageStream) -> Iterator[Features]:
        """Features of each batch, in order, computed while the caller prepares the next batches.

        A few batches are under way at a time, never all. Images are copied when taken, so that
        the caller may reuse its arrays.
        """
        sizes: deque[int] = deque()
        rows: list[np.ndarray] = []
        with contextlib.closing(self._infer(_walk(batches, sizes))) as inferred:
            for row in inferred:
                rows.append(row)
                while sizes and len(rows) >= sizes[0]:
                    size = sizes.popleft()
                    yield self._stack(rows[:size])
                    del rows[:size]
        for _ in sizes:  # what is left at the end are batches without images
            yield self._stack([])

    def _infer(self, images: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        # A plain ring of requests: Python callbacks, which AsyncInferQueue needs, may still be
        # waiting for the interpreter when it shuts down, and then abort the process.
        streams = self.compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        idle = [self.compiled.create_infer_request() for _ in range(streams + SPARE_REQUESTS)]
        busy: deque[Any] = deque()
        try:
            for image in images:
                if idle:
                    busy.append(_start(idle.pop(), image))
                else:
                    features = _wait(busy[0])
                    busy.append(_start(busy.popleft(), image))
                    yield features
            while busy:
                yield _wait(busy.popleft())
        finally:
            for request in busy:
                request.wait()

    def _stack(self, rows: list[np.ndarray]) -> Features:
        d = self.compiled.output(0).shape[1]
        return np.array(rows, np.float32).reshape(len(rows), d)


def build_runner(backbone: keras.Model, *, precision: Precision) -> Runner:
    """Compiles the backbone for throughput on the CPU.

    Args:
        backbone: Images (n, size, size, 3) in [-1, 1] -> features (n, d), frozen.
        precision: Of the arithmetic: "float32", or "bfloat16" on a CPU that has it, and faster only
            on some.

    Raises:
        BackendError: The CPU lacks the precision.
        ModelError: The backbone holds something that has no exact rewriting.
    """
    core = import_openvino().Core()
    _check_precision(core, precision)
    model = core.read_model(write_onnx(read_graph(backbone)))
    model.reshape([1, *model.input().partial_shape[1:]])
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    return OpenVinoRunner(core.compile_model(model, "CPU", settings))


def _check_precision(core: Any, precision: Precision) -> None:
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError(
            "The engine 'openvino' finds no bfloat16 arithmetic in this CPU. Choose the precision "
            "float32. Received: bfloat16"
        )


def _walk(batches: ImageStream, sizes: deque[int]) -> Iterator[np.ndarray]:
    for images in batches:
        sizes.append(len(images))
        yield from images


def _start(request: Any, image: np.ndarray) -> Any:
    request.start_async({0: image[None]})
    return request


def _wait(request: Any) -> np.ndarray:
    request.wait()
    return request.get_output_tensor().data[0].copy()
