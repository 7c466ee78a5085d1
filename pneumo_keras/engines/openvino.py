"""The backbone on OpenVINO: the same features as Keras, several times faster on a CPU.

OpenVINO reads the ONNX model, which is written in memory in a fraction of a second.
"""

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumo_keras.arrays import Features
from pneumo_keras.engines.runner import ImageStream, Runner
from pneumo_keras.engines.table import Precision
from pneumo_keras.errors import BackendError
from pneumo_keras.runtime.backend import import_openvino

if TYPE_CHECKING:
    import keras

CHANNELS_LAST = (0, 2, 3, 1)
SPARE_REQUESTS = 8  # beyond those computing: work in hand while the caller prepares more


@functools.cache
def _start_core() -> Any:
    """OpenVINO, which stays until the process ends.

    On CPUs with AVX-512 it gives the thread that starts it a signal stack, and frees that with its last
    reference. If another thread dropped this one, the next signal, such as Ctrl-C, would crash the process.
    """
    return import_openvino().Core()


def build_runner(backbone: "keras.Model", *, precision: Precision) -> Runner:
    """Compiles a frozen backbone; raises as `build_onnx_runner`, and ModelError for an inexact rewriting."""
    from pneumo_keras.engines.graph import read_graph  # both of them import Keras
    from pneumo_keras.engines.onnx import write_onnx

    return build_onnx_runner(write_onnx(read_graph(backbone)), precision=precision)


def build_onnx_runner(
    network: bytes, *, precision: Precision, layers: Sequence[str] = (), maps: bool = False
) -> Runner:
    """Compiles an ONNX file of `write_onnx` for throughput on the CPU.

    Args:
        network: The file.
        precision: Of its arithmetic.
        layers: Names of the pooling layers whose features are computed; all if none is given.
        maps: Whether, instead of the features of these, their maps are computed, channels running fastest.

    Raises:
        BackendError: The CPU lacks the precision; with bfloat16 only some are faster.
    """
    core, openvino = _start_core(), import_openvino()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError(
            "The engine 'openvino' finds no bfloat16 arithmetic in this CPU. Choose the precision "
            "float32. Received: bfloat16"
        )
    model = core.read_model(network)
    if layers:
        ops = openvino.opset13
        named = {name: one for step in model.get_ops() for one in step.outputs() for name in one.names}
        values = [named[layer] for layer in layers]
        if maps:
            averaged = [value.get_node().input_value(0) for value in values]
            last = [ops.transpose(one, np.array(CHANNELS_LAST)) for one in averaged]
            values = [ops.reshape(one, np.array([0, -1]), special_zero=True) for one in last]
        model = openvino.Model([ops.concat(values, axis=1)], model.get_parameters())
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
