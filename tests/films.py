"""Films in memory, where a test looks at all of them at once."""

import numpy as np
from PIL import Image

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


def write_films(folder, films, *, classes=("NORMAL", "PNEUMONIA")):
    """As PNG files in folders of their classes, numbered in their order."""
    for index, (image, label) in enumerate(zip(films.images, films.labels, strict=True)):
        path = folder / classes[label] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def write_splits(folder, splits):
    """In the layout of the original films: {train,val,test}/{NORMAL,PNEUMONIA}."""
    for split, films in splits.items():
        write_films(folder / split, films)


def sort_by_class(films):
    """As a folder lists them."""
    order = np.argsort(films.labels, kind="stable")
    return FilmArray(films.images[order], films.labels[order])
