"""What runs the frozen network over a stream of image batches: Keras, a JAX rewriting, OpenVINO."""

import functools
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import keras
import numpy as np

from pneumo_keras.arrays import Features, ImageBatch
from pneumo_keras.errors import SettingsError

Network = Callable[[Iterable[ImageBatch]], Iterator[Features]]
Engine = Literal["keras", "frozen", "openvino"]
Precision = Literal["float32", "bfloat16"]


def choose_engine(device: str) -> tuple[Engine, str]:
    """The fastest engine there is for a device, and why.

    By measurement, in docs/benchmarks.md: on CPUs OpenVINO first, then the JAX rewriting.

    Args:
        device: "cpu", or the accelerator's name.
    """
    if device == "cpu" and importlib.util.find_spec("openvino"):
        return "openvino", "the fastest on a CPU"
    if keras.config.backend() == "jax":
        return "frozen", "the fastest on JAX" if device != "cpu" else "the fastest without OpenVINO"
    return "keras", f"the only one on {keras.config.backend()} here"


def build_network(backbone: keras.Model, *, engine: Engine, precision: Precision) -> Network:
    """Makes a backbone run over streams of batches, each result in its turn.

    Args:
        backbone: Images (n, size, size, 3) in [-1, 1] -> features (n, d), frozen.
        engine: What runs it.
        precision: Of the arithmetic.

    Raises:
        BackendError: The engine is not installed, or the device lacks the precision.
        ModelError: The engine does not know a layer.
        SettingsError: Engine, precision and backend do not go together.
    """
    match engine:
        case "keras":
            if precision != "float32":
                raise SettingsError(
                    f"compute.precision must be float32 for the engine keras. Received: {precision}"
                )
            return functools.partial(_stream, backbone.predict_on_batch)
        case "frozen":
            return _build_frozen_network(backbone, precision)
        case "openvino":
            from pneumo_keras.engines.openvino import build_openvino_network

            return build_openvino_network(backbone, precision=precision).stream


def _build_frozen_network(backbone: keras.Model, precision: Precision) -> Network:
    if keras.config.backend() != "jax":
        raise SettingsError(
            f"compute.engine=frozen needs KERAS_BACKEND=jax. Received: KERAS_BACKEND={keras.config.backend()}"
        )
    from pneumo_keras.engines.jax_program import freeze

    return functools.partial(_stream, freeze(backbone, precision=precision).compute)


def _stream(compute: Callable[[ImageBatch], Any], batches: Iterable[ImageBatch]) -> Iterator[Features]:
    """Starts a batch before it hands over the one before, for functions that return at once."""
    pending = None
    for images in batches:
        started = compute(images)
        if pending is not None:
            yield np.asarray(pending)
        pending = started
    if pending is not None:
        yield np.asarray(pending)
