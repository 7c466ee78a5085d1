"""Pneumonia in chest X-rays: a frozen InceptionV3 behind a dropout head.

Importing this package chooses the Keras backend: JAX, unless the environment variable
`KERAS_BACKEND` names another one. `~/.keras/keras.json` is ignored. A research tool, not a
medical device.
"""

import os
import sys

from pneumo_keras.errors import BackendError

__version__ = "0.1.0"

BACKEND = os.environ.setdefault("KERAS_BACKEND", "jax")

if "keras" in sys.modules and sys.modules["keras"].config.backend() != BACKEND:
    raise BackendError(
        "keras was imported before pneumo_keras and runs on "
        f"'{sys.modules['keras'].config.backend()}', not on '{BACKEND}'. "
        "Import pneumo_keras first, or set KERAS_BACKEND before either."
    )
