"""Scores of a saved model on the backend that KERAS_BACKEND names.

KERAS_BACKEND=torch python -m tests.backends.scoring runs/one/model.keras films.npz scores.npz
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from pneumo_keras.backend import start_backend

BATCH = 48


def score(model_file, films_file, scores_file):
    """Writes scores (n) for each array of films (n, height, width), 0..255, under its name."""
    from pneumo_keras.model.classifier import load_classifier

    model = load_classifier(Path(model_file)).join()
    with np.load(films_file) as films:
        scores = {
            name: np.asarray(model.predict(films[name][..., None].astype(np.float32), BATCH, verbose=0))[:, 0]
            for name in films.files
        }
    np.savez(scores_file, **scores)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        start_backend(Path(cache))
        score(*sys.argv[1:])
