"""The Keras backend: whether it is installed and suitable, and how it starts."""

import contextlib
import difflib
import functools
import gc
import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pneumo_keras import BACKEND
from pneumo_keras.errors import BackendError, find_memory_limit
from pneumo_keras.runtime.invocation import to_command
from pneumo_keras.runtime.private_apis import (
    compute_in_float32,
    hide_modules,
    keep_tensorflow_out,
    resize_by_weights,
    silence_telemetry,
)
from pneumo_keras.storage.cache import PROGRAMS

log = logging.getLogger("pneumo_keras")

FITTING = ("jax", "tensorflow", "torch")
SCORING = (*FITTING, "openvino")

JAX_PLUGINS = ("jax_plugins", "libtpu")  # one of them is installed where JAX has an accelerator

# Bytes of address space: JAX adds two numbers with it on two cores, OpenVINO scores images with half of it.
LEAST_MEMORY = 1_750_000_000
MOST_OF_PROGRAMS = 1 << 31  # bytes of compiled programs that are kept
DETERMINISTIC_XLA = "xla_gpu_deterministic_ops"  # the same bytes every time

# What Keras, JAX and scikit-learn import where it is installed, for parts of theirs that are not used here.
# Together they take as long to import as the rest.
TRIED = ("etils", "matplotlib", "pandas", "requests", "sklearn")
TRIED_BY_SKLEARN = ("pandas",)


def check_name() -> None:
    """Checks that a backend of this name is known, whether or not a command needs it.

    Raises:
        BackendError: It is not.
    """
    if BACKEND not in SCORING:
        near = difflib.get_close_matches(BACKEND.lower(), SCORING, n=1, cutoff=0.5)
        hint = f". Did you mean '{near[0]}'?" if near else ""
        known = f"{', '.join(SCORING[:-1])} or {SCORING[-1]}"
        raise BackendError(f"KERAS_BACKEND must be {known}. Received: {BACKEND!r}{hint}")


def check_backend(command: str) -> None:
    """Checks the backend before any work, without importing it.

    Args:
        command: "train" or "sweep", which need gradients, or one that only scores.

    Raises:
        BackendError: The backend is unknown, cannot do it, or its package is missing.
    """
    check_name()
    able = FITTING if command in ("train", "sweep") else SCORING
    if BACKEND not in able:
        raise BackendError(
            f"{to_command(command)} runs on {', '.join(able)}. Received: KERAS_BACKEND={BACKEND}"
        )
    extra = BACKEND if BACKEND in ("tensorflow", "torch") else ""
    check_packages(f"KERAS_BACKEND={BACKEND}", [BACKEND], extra=extra)


def check_packages(user: str, packages: Sequence[str], *, extra: str, pip: str = "") -> None:
    """Checks that optional packages are installed, without importing them.

    Args:
        user: What needs them, as the message names it.
        packages: As they are imported.
        extra: The extra of this package that installs them; "" for none.
        pip: Their names for pip, if they differ.

    Raises:
        BackendError: One is not.
    """
    missing = next((name for name in packages if importlib.util.find_spec(name) is None), None)
    if missing:
        sync = f"uv sync --extra {extra}" if extra else "uv sync"
        raise BackendError(
            f"{user} needs the package {missing}. Install it: {sync}, or pip install "
            f"{pip or ' '.join(packages)}"
        )


def check_memory(user: str) -> None:
    """Checks that libraries in C may take the memory that they need, or they would end the process, or wait.

    Raises:
        BackendError: They may not; `user` is named as what needs it.
    """
    limit = find_memory_limit()
    if limit < LEAST_MEMORY:
        raise BackendError(
            f"Memory is limited to {limit / 1e9:,.1f} GB for this process (ulimit -v), and {user} takes "
            f"{LEAST_MEMORY / 1e9:,.1f} before any work. Raise the limit."
        )


def import_openvino() -> Any:
    """OpenVINO, as a Keras backend or as an engine."""
    silence_telemetry()
    with _explain_import("OpenVINO", ", or set compute.engine=jax"):
        return importlib.import_module("openvino")


@functools.cache
def start_backend(cache: Path) -> None:
    """Imports Keras on its backend, quiet and deterministic as far as the backend can be, and scikit-learn.

    Args:
        cache: JAX keeps compiled programs below it, so that later runs start sooner.

    Raises:
        BackendError: The backend is installed and cannot be imported, or memory is limited too far.
    """
    check_memory(f"Keras on {BACKEND}")
    log.info("Loading Keras on %s", BACKEND)
    gc.disable()
    try:
        with _explain_import(f"KERAS_BACKEND={BACKEND}"):
            _prepare_backend(cache)
            with hide_modules(*TRIED):
                keras = importlib.import_module("keras")
        import_sklearn()
    finally:
        gc.freeze()  # or Python would walk through a million objects of modules every few seconds
        gc.enable()
    if BACKEND != "tensorflow":
        keep_tensorflow_out()
    if BACKEND == "openvino":
        resize_by_weights()
    keras.config.set_floatx("float32")  # whatever ~/.keras/keras.json has
    keras.config.set_image_data_format("channels_last")


def import_sklearn() -> None:
    """Imports scikit-learn without pandas, which it tries to."""
    with hide_modules(*TRIED_BY_SKLEARN):
        importlib.import_module("sklearn.utils")


def may_accelerate() -> bool:
    """Whether the backend may find an accelerator, and must start to tell."""
    if BACKEND == "jax":
        return any(importlib.util.find_spec(package) for package in JAX_PLUGINS)
    return BACKEND != "openvino"


def describe_device() -> str:
    """What the backend computes on: "cpu", or the accelerator's name."""
    if not may_accelerate():
        return "cpu"
    match BACKEND:
        case "jax":
            device = importlib.import_module("jax").devices()[0]
            return "cpu" if device.platform == "cpu" else device.device_kind
        case "tensorflow":
            tensorflow = importlib.import_module("tensorflow")
            return "gpu" if tensorflow.config.list_physical_devices("GPU") else "cpu"
        case "torch":
            torch = importlib.import_module("torch")
            return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        case _:
            return "cpu"


def count_devices() -> int:
    """How many devices share a step of an online fit, those of other processes included."""
    return importlib.import_module("jax").device_count() if BACKEND == "jax" else 1


@contextlib.contextmanager
def _explain_import(what: str, alternative: str = "") -> Iterator[None]:
    try:
        yield
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BackendError(
            f"{what} is installed and cannot be imported: {reason}. Reinstall it{alternative}"
        ) from error


def _prepare_backend(cache: Path) -> None:
    match BACKEND:
        case "jax":
            _prepare_jax(cache)
        case "tensorflow":
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            # Nothing is hidden from it, nor from torch.
            importlib.import_module("tensorflow").config.experimental.enable_op_determinism()
        case "torch":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
            torch = importlib.import_module("torch")
            # It warns of an operation that has no deterministic implementation.
            torch.use_deterministic_algorithms(True, warn_only=True)
            # Nothing reads memory that it has not written.
            torch.utils.deterministic.fill_uninitialized_memory = False
        case "openvino":
            compute_in_float32(import_openvino())


def _prepare_jax(cache: Path) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    if DETERMINISTIC_XLA not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{DETERMINISTIC_XLA}=true".strip()
    with hide_modules(*TRIED):
        jax = importlib.import_module("jax")
    PROGRAMS.shrink(cache, MOST_OF_PROGRAMS)
    jax.config.update("jax_compilation_cache_dir", str(cache / PROGRAMS.folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # Where it cannot be read or written, programs are compiled again, which needs no warning.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
