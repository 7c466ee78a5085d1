"""One saved model on every backend that is installed: the largest difference of a score from JAX's.

python -m tests.backends.parity runs/one/model.keras pneumoniamnist.npz
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from pneumo_keras.runtime.backend import SCORING
from tests.backends.processes import is_installed, run_module

# Beside the training images': larger and smaller, as high as wide and not.
SIZES = [(2.4, 2.4), (3.3, 1.2), (0.75, 0.9)]
FEWER = 8  # other sizes are tried on every eighth image


def resize_images(images):
    """Images (n, height, width), and some of them in each of the other sizes, by the size."""
    height, width = images.shape[1:]
    found = {f"{height} x {width}": images}
    for down, across in SIZES:
        high, wide = round(down * height), round(across * width)
        resized = [np.asarray(Image.fromarray(image).resize((wide, high))) for image in images[::FEWER]]
        found[f"{high} x {wide}"] = np.stack(resized)
    return found


def score_everywhere(model_file, images, backends):
    """Scores by backend and by size."""
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "images.npz", **resize_images(images))
        for name in backends:
            run_module(name, "scoring", model_file, f"{folder}/images.npz", f"{folder}/{name}.npz")
            with np.load(f"{folder}/{name}.npz") as file:
                scores[name] = dict(file)
    return scores


def to_differences(scores, backend):
    """Largest difference from JAX's scores for each size."""
    return {size: np.abs(of_jax - scores[backend][size]).max() for size, of_jax in scores["jax"].items()}


if __name__ == "__main__":
    with np.load(sys.argv[2]) as file:
        test_images = file["test_images"]
    found = score_everywhere(sys.argv[1], test_images, [name for name in SCORING if is_installed(name)])
    rows = [{"backend": name, **to_differences(found, name)} for name in found]
    print(tabulate(rows, headers="keys", floatfmt=".1e", tablefmt="github"))  # noqa: T201
