"""Films in memory, where a test looks at all of them at once."""

import numpy as np

from pneumo_keras.data.films import FilmArray
from pneumo_keras.data.phantom import PhantomFilms, build_phantom_splits
from pneumo_keras.data.pneumonia_mnist.archive import open_archive


def build_phantom_films(n, *, size, seed, pneumonia_share=0.74):
    return load(PhantomFilms(n, size, seed, pneumonia_share))


def load_phantom_splits(counts, *, size=28, seed=0):
    """As the source `phantom` draws them."""
    return {split: load(films) for split, films in build_phantom_splits(counts, size=size, seed=seed).items()}


def load_archive(path, split, *, size):
    films = open_archive(path, split, size=size)
    return FilmArray(np.concatenate(list(films.iterate())), films.labels)


def load(films):
    return FilmArray(films.read(slice(None)), films.labels)
