"""Films of noise, of which no two are alike."""

import numpy as np

from pneumo_keras.data.films import FilmArray

Splits = dict[str, FilmArray]


def draw_films(
    n: int, *, seed: int, pneumonia: int | None = None, size: int = 28, level: int = 100
) -> FilmArray:
    """Films of noise about `level`, the last `pneumonia` of them positive."""
    lot = np.random.default_rng(seed)
    images = lot.integers(level - 50, level + 50, (n, size, size)).astype(np.uint8)
    labels = np.zeros(n, np.int64)
    labels[n - (n // 2 if pneumonia is None else pneumonia) :] = 1
    return FilmArray(images, labels)


def draw_splits() -> Splits:
    return {split: draw_films(n, seed=n) for split, n in {"train": 40, "val": 20, "test": 24}.items()}


def put(splits: Splits, target: tuple[str, int], image: np.ndarray, label: int | None = None) -> None:
    split, index = target
    splits[split].images[index] = image
    if label is not None:
        splits[split].labels[index] = label


def brighten(image: np.ndarray) -> np.ndarray:
    return (255 * (image / 255) ** 0.7).round().astype(np.uint8)


class CountingFilms:
    """Lets films be read by rows alone, and counts how."""

    def __init__(self, films: FilmArray):
        self._films = films
        self.shape, self.labels, self.fingerprint = films.shape, films.labels, films.fingerprint()
        self.reads: list[int] = []

    def __len__(self):
        return len(self._films)

    def read(self, rows):
        images = self._films.read(rows)
        self.reads.append(len(images))
        return images
