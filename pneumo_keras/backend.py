"""The Keras backend: whether it is there and can do the job, and how it starts."""

import contextlib
import functools
import gc
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pneumo_keras import BACKEND
from pneumo_keras.errors import BackendError

log = logging.getLogger("pneumo_keras")

FITTING = ("jax", "tensorflow", "torch")
SCORING = (*FITTING, "openvino")

# What Keras and JAX import where it is installed, for parts of theirs that are not used here. Together
# they take as long to import as the rest of both.
TRIED = ("etils", "matplotlib", "pandas", "requests", "sklearn")
TRIED_BY_SKLEARN = ("pandas",)


def check_backend(command: str) -> None:
    """Checks the backend before any work, without importing it.

    Args:
        command: "train" or "sweep", which need gradients, "export", which needs Keras' own resizing of films
            of any size (on OpenVINO it is another one), or one that only scores.

    Raises:
        BackendError: The backend is unknown, cannot do it, or its package is missing.
    """
    able = FITTING if command in ("train", "sweep", "export") else SCORING
    if BACKEND not in able:
        raise BackendError(
            f"pneumo-keras {command} runs on {', '.join(able)}. Received: KERAS_BACKEND={BACKEND}"
        )
    # Keras on JAX is what the project is made of; the others are extras.
    check_packages(f"KERAS_BACKEND={BACKEND}", [BACKEND], extra="" if BACKEND == "jax" else BACKEND)


def check_packages(user: str, packages: Sequence[str], *, extra: str) -> None:
    """Checks that optional packages are installed, without importing them.

    Args:
        user: What needs them, as the message names it.
        packages: As they are imported, and as pip knows them.
        extra: Of this package, that brings them; none where it is empty.

    Raises:
        BackendError: One is not.
    """
    missing = next((name for name in packages if importlib.util.find_spec(name) is None), None)
    if missing:
        sync = f"uv sync --extra {extra}" if extra else "uv sync"
        raise BackendError(
            f"{user} needs the package {missing}. Install it: {sync}, or pip install {' '.join(packages)}"
        )


def import_openvino() -> Any:
    """OpenVINO, as a Keras backend or as an engine, once `check_packages` has found it."""
    # Importing it would send an event to its makers, from a forked process.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    return importlib.import_module("openvino")


def start_backend(cache: Path) -> None:
    """Imports Keras on its backend, without the backend's own chatter, and scikit-learn.

    Args:
        cache: JAX keeps compiled programs below it, so that later runs start sooner.
    """
    log.info("Loading Keras on %s", BACKEND)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _keep_all():
        if BACKEND in ("tensorflow", "torch"):
            importlib.import_module(BACKEND)  # nothing is hidden from these
        with hide_modules(*TRIED):
            keras = _import_keras(cache)
        with hide_modules(*TRIED_BY_SKLEARN):
            importlib.import_module("sklearn.utils")
    if BACKEND != "tensorflow":
        # Keras would import TensorFlow wherever it is installed, to save a model for instance.
        importlib.import_module("keras.src.utils.module_utils").tensorflow._available = False
    keras.config.set_floatx("float32")  # whatever ~/.keras/keras.json says
    keras.config.set_image_data_format("channels_last")


@contextlib.contextmanager
def hide_modules(*names: str) -> Iterator[None]:
    """Lets modules look as if they were not installed, but those that were imported before.

    Afterwards all of them can be imported again.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _keep_all() -> Iterator[None]:
    """Looks for no garbage, now or later, among what is made meanwhile: modules stay to the end.

    Python would walk through a million of their objects every few seconds.
    """
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if looking:
            gc.enable()


def _import_keras(cache: Path) -> Any:
    if BACKEND == "jax":
        jax = importlib.import_module("jax")
        jax.config.update("jax_compilation_cache_dir", str(cache / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
        # Where it cannot be read or written, programs are compiled: nothing that the user must hear of.
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
    if BACKEND == "openvino":
        # Keras compiles with OpenVINO's defaults, and those are bfloat16 where the CPU has it.
        openvino = import_openvino()
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        openvino.compile_model = functools.partial(openvino.compile_model, config=exact)
    return importlib.import_module("keras")


def describe_device() -> str:
    """What the backend computes on: "cpu", or the accelerator's name."""
    match BACKEND:
        case "jax":
            jax = importlib.import_module("jax")
            device = jax.devices()[0]
            return "cpu" if device.platform == "cpu" else device.device_kind
        case "tensorflow":
            tensorflow = importlib.import_module("tensorflow")
            return "gpu" if tensorflow.config.list_physical_devices("GPU") else "cpu"
        case "torch":
            torch = importlib.import_module("torch")
            return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        case _:
            return "cpu"
