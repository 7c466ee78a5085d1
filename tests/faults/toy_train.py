"""`pneumo-keras` on the toy network, with a checkpoint after every batch: quick trainings to be killed.

Where the environment variable GATE names a file, it waits for that file, to begin at once with others.
"""

import os
import sys
import time
from pathlib import Path

import pneumo_keras  # noqa: F401 (chooses the backend)
from pneumo_keras.__main__ import start

if __name__ == "__main__":
    from pneumo_keras.config import find_cache
    from pneumo_keras.runtime import backend

    backend.start_backend(find_cache())
    backend.start_backend = lambda cache: None
    from pneumo_keras.recipes import network
    from pneumo_keras.training import checkpoint
    from tests.toy import build_toy_backbone

    network.build_backbone = build_toy_backbone
    checkpoint.SECONDS_BETWEEN = checkpoint.MIN_SAVE_INTERVAL_FACTOR = 0
    if gate := os.environ.get("GATE"):
        Path(f"{gate}.{os.getpid()}").touch()
        while not Path(gate).exists():
            time.sleep(0.001)
    start(sys.argv[1:])
