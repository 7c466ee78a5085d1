"""Images of noise, of which no two are alike."""

import numpy as np

from pneumo_keras.data.images import ImageArray

Splits = dict[str, ImageArray]


def draw_images(
    n: int, *, seed: int, pneumonia: int | None = None, size: int = 28, level: int = 100
) -> ImageArray:
    """Images of noise about `level`, the last `pneumonia` of them positive."""
    lot = np.random.default_rng(seed)
    images = lot.integers(level - 50, level + 50, (n, size, size)).astype(np.uint8)
    labels = np.zeros(n, np.int64)
    labels[n - (n // 2 if pneumonia is None else pneumonia) :] = 1
    return ImageArray(images, labels)


def draw_splits() -> Splits:
    return {split: draw_images(n, seed=n) for split, n in {"train": 40, "val": 20, "test": 24}.items()}


def put(splits: Splits, target: tuple[str, int], image: np.ndarray, label: int | None = None) -> None:
    split, index = target
    splits[split].images[index] = image
    if label is not None:
        splits[split].labels[index] = label


def brighten(image: np.ndarray) -> np.ndarray:
    return (255 * (image / 255) ** 0.7).round().astype(np.uint8)


class CountingImages:
    """Lets images be read by rows alone, and counts how."""

    def __init__(self, images: ImageArray):
        self._images = images
        self.shape, self.labels, self.fingerprint = images.shape, images.labels, images.fingerprint()
        self.reads: list[int] = []

    def __len__(self):
        return len(self._images)

    def read(self, rows):
        images = self._images.read(rows)
        self.reads.append(len(images))
        return images
