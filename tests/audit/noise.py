"""Images of noise, of which no two are alike."""

import numpy as np

from tests.images import ImageArray


def draw_images(n, *, seed, pneumonia=None, size=28, level=100):
    """Images of noise about `level`, the last `pneumonia` of them positive."""
    random = np.random.default_rng(seed)
    images = random.integers(level - 50, level + 50, (n, size, size)).astype(np.uint8)
    labels = np.zeros(n, np.int64)
    labels[n - (n // 2 if pneumonia is None else pneumonia) :] = 1
    return ImageArray(images, labels)


def draw_splits():
    return {split: draw_images(n, seed=n) for split, n in {"train": 40, "val": 20, "test": 24}.items()}


def put(splits, target, image, label=None):
    split, index = target
    splits[split].images[index] = image
    if label is not None:
        splits[split].labels[index] = label


def brighten(image):
    return (255 * (image / 255) ** 0.7).round().astype(np.uint8)
