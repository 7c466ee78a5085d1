"""A training of a second on the backend that KERAS_BACKEND names.

KERAS_BACKEND=torch python -m tests.backends.training FOLDER SETTING...
"""

import os
import sys
from pathlib import Path

from pneumo_keras.runtime.backend import start_backend


def build_backbone(*given, **settings):
    """The toy with draws that are the same on every backend."""
    from pneumo_keras.model.layers import build_glorot
    from pneumo_keras.runtime.private_apis import override_initializers
    from tests.toy import build_toy_backbone

    with override_initializers(build_glorot(0)):
        return build_toy_backbone(*given, **settings)


def train(folder, *overrides):
    """Writes a run to the folder `run`."""
    from pneumo_keras.config import load_config
    from pneumo_keras.recipes import network
    from pneumo_keras.recipes.train import train_run
    from pneumo_keras.runs.folder import RunFolder

    network.build_backbone = build_backbone
    train_run(load_config("demo", list(overrides)), RunFolder(folder / "run"))


if __name__ == "__main__":
    place = Path(sys.argv[1])
    os.environ["PNEUMO_KERAS_CACHE"] = str(place / "cache")
    start_backend(place / "cache")
    train(place, *sys.argv[2:])
