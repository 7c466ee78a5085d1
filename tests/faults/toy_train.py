"""`pneumo-keras` on the toy network, with a checkpoint after every batch: quick trainings to be killed."""

import sys

import pneumo_keras  # noqa: F401 (chooses the backend)
from pneumo_keras.__main__ import start

if __name__ == "__main__":
    from pneumo_keras import backend
    from pneumo_keras.config import find_cache

    backend.start_backend(find_cache())
    backend.start_backend = lambda cache: None
    from pneumo_keras.recipes import network
    from pneumo_keras.training import keeper
    from tests.toy import build_toy_backbone

    network.build_backbone = build_toy_backbone
    keeper.SECONDS_BETWEEN = 0.0
    start(sys.argv[1:])
