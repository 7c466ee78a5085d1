"""Private APIs of Keras, JAX, OpenVINO and Ray, which new versions may change.

Each has one name here, and a test of that name in `tests/runtime/test_private_apis.py` fails if it changes.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

Initializer = Callable[[tuple[int, ...]], Any]
"""First weights by their shape, as an array."""

XLA_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""For convolutions on a CPU: XLA's newer kernels (YNNPACK) run VALID ones at 20-45 GFLOP/s a core where its
older ones (Eigen), which the empty list of uses chooses, reach 100-130. Measured on the whole network: 2.73
times the images a second of stock Keras with the flag, 1.66 times without it, at 149 px."""


@contextlib.contextmanager
def hide_modules(*names: str) -> Iterator[None]:
    """Hides modules as if they were not installed, except those that were imported before."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def keep_tensorflow_out() -> None:
    """Keras would import TensorFlow wherever it is installed, to save a model for instance."""
    importlib.import_module("keras.src.utils.module_utils").tensorflow._available = False


def silence_telemetry() -> None:
    """Importing OpenVINO would send an event to its developers, from a forked process."""
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]


def compute_in_float32(openvino: Any) -> None:
    """Keras compiles with OpenVINO's defaults, and those are bfloat16 where the CPU has it."""
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    openvino.compile_model = functools.partial(openvino.compile_model, config=exact)


def resize_by_weights() -> None:
    """Lets Keras on OpenVINO resize with the weights that it has on every other backend.

    It uses them for Lanczos kernels only, and for others OpenVINO's operator, which averages differently or
    not at all when images shrink: grey levels were up to 130 off, scores 0.24.
    """
    image = importlib.import_module("keras.src.backend.openvino.image")
    image.LANCZOS_INTERPOLATIONS.update(bilinear="linear", bicubic="cubic")


@contextlib.contextmanager
def override_initializers(
    draw: Initializer | None = None, zeros: Initializer | None = None
) -> Iterator[None]:
    """Layers that are built meanwhile start with these kernels, instead of those of their initialisers.

    JAX would compile a program for each shape that Keras initialises.

    Args:
        draw: A kernel from its shape; zeros if not given, for layers that are about to get their weights.
        zeros: Zeros from a shape, for all that is not a kernel.
    """
    keras, numpy = importlib.import_module("keras"), importlib.import_module("numpy")
    zeros = zeros or functools.partial(numpy.zeros, dtype="float32")
    draws: dict[Any, Initializer] = {
        keras.initializers.VarianceScaling: draw or zeros,  # Glorot's is one
        keras.initializers.Zeros: zeros,
        keras.initializers.Ones: lambda shape: zeros(shape) + 1,
    }

    def to_call(draw: Initializer) -> Callable[..., Any]:
        return lambda _, shape, dtype=None: keras.ops.convert_to_tensor(draw(shape), dtype)

    own = {initializer: initializer.__call__ for initializer in draws}
    try:
        for initializer, replacement in draws.items():
            initializer.__call__ = to_call(replacement)
        yield
    finally:
        for initializer, call in own.items():
            initializer.__call__ = call


def trace_tensor(tensor: Any) -> tuple[Any, Any, int]:
    """The operation that makes a Keras tensor, the arguments of that call, its index among the results."""
    operation, call, index = tensor._keras_history
    return operation, operation._inbound_nodes[call].arguments, index


def keep_ray_off_stdout() -> None:
    """Ray prints there when workers end, whatever `log_to_driver` is; results belong there."""
    worker: Any = importlib.import_module("ray._private.worker")
    worker._worker_logs_enabled = False


def await_all_processes(barrier: str) -> None:
    """Waits until all processes that JAX has joined reach the barrier of this name, for a month at most."""
    client = importlib.import_module("jax._src.distributed").global_state.client
    client.wait_at_barrier(barrier, 30 * 24 * 3600 * 1000)
