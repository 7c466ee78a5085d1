"""What a run was made with: versions, backend, device, source revision."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pneumo_keras
from pneumo_keras import BACKEND
from pneumo_keras.runtime.backend import describe_device

PACKAGES = (
    "keras",
    "jax",
    "tensorflow",
    "torch",
    "openvino",
    "onnx",
    "onnxruntime",
    "numpy",
    "scikit-learn",
    "medmnist",
)


def describe_environment() -> dict[str, Any]:
    """Versions of the packages that matter, backend, device, machine and source revision."""
    return {
        "pneumo_keras": pneumo_keras.__version__,
        "revision": find_revision(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _find_version(name))},
        "backend": BACKEND,
        "device": describe_device(),
        "platform": platform.platform(),
        "processor": _find_processor(),
        "cores": os.cpu_count(),
    }


def find_revision() -> str | None:
    """The commit of a checkout, with "-dirty" where files differ from it; None for a wheel."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    root = Path(pneumo_keras.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _find_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
