"""A training that takes a second."""

import pytest

COUNTS = (60, 30, 40)
SMALL = [
    f"data.phantom_images={list(COUNTS)}",
    "model.feature_layers=['mixed10']",
    "training.epochs=2",
    "model.hidden_units=4",
]
LEARNING = "training.learning_rate=0.1"
"""Lets two epochs suffice for scores that rise with pneumonia, which a calibration wants."""


def train_toy_run(path, cache, *overrides):
    """Trains a run of the toy network."""
    from pneumo_keras.config import load_config  # all of the package, which few tests need
    from pneumo_keras.recipes import network
    from pneumo_keras.recipes.train import train_run
    from pneumo_keras.runs.folder import RunFolder
    from tests.toy import build_toy_backbone  # with Keras, which must not come before the package

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PNEUMO_KERAS_CACHE", str(cache))
        patched.setattr(network, "build_backbone", build_toy_backbone)
        train_run(load_config("demo", [*SMALL, LEARNING, *overrides]), RunFolder(path))
    return path
