"""Scores of a saved model on the backend that KERAS_BACKEND names.

KERAS_BACKEND=torch python -m tests.backends.scoring runs/one/model.keras images.npz scores.npz
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from pneumo_keras.runtime.backend import start_backend

BATCH = 48


def score(model_file, images_file, scores_file):
    """Writes scores (n) for each array of images (n, height, width), 0..255, under its name."""
    from pneumo_keras.model.classifier import load_classifier

    model = load_classifier(Path(model_file)).join()
    with np.load(images_file) as images:
        scores = {
            name: np.asarray(model.predict(images[name][..., None].astype(np.float32), BATCH, verbose=0))[
                :, 0
            ]
            for name in images.files
        }
    np.savez(scores_file, **scores)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        start_backend(Path(cache))
        score(*sys.argv[1:])
