"""Pneumonia in chest X-rays: a frozen InceptionV3 behind a dropout head.

    run = pneumo_keras.load_run("runs/one")
    run.predict(["image.png"]).probabilities

Importing this package chooses the Keras backend: JAX, unless the environment variable
`KERAS_BACKEND` names another one. `~/.keras/keras.json` is ignored. A research tool, not a
medical device.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from pneumo_keras.errors import BackendError, PneumoError

if TYPE_CHECKING:
    from pneumo_keras.api import Predictions, TrainedRun, evaluate, load_run, train

__all__ = ["PneumoError", "Predictions", "TrainedRun", "__version__", "evaluate", "load_run", "train"]
__version__ = "0.1.0"

BACKEND = os.environ.setdefault("KERAS_BACKEND", "jax")

if "keras" in sys.modules and sys.modules["keras"].config.backend() != BACKEND:
    raise BackendError(
        "keras was imported before pneumo_keras and runs on "
        f"'{sys.modules['keras'].config.backend()}', not on '{BACKEND}'. "
        "Import pneumo_keras first, or set KERAS_BACKEND before either."
    )


def __getattr__(name: str) -> Any:
    """The Python interface, which is imported when it is first used (PEP 562)."""
    if name in __all__:
        return getattr(importlib.import_module("pneumo_keras.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
