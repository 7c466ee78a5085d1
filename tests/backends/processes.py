"""A process has one backend, so every other one gets a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def is_installed(backend):
    return importlib.util.find_spec(backend) is not None


def run_module(backend, module, *arguments):
    """Runs a module of the tests on a backend, in a process that knows no other.

    Args:
        backend: As Keras names it.
        module: Below `tests/backends`.
        arguments: Of its command line.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"tests.backends.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} on {backend}: {done.stderr}")
