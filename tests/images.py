"""Images in memory, where a test looks at all of them at once."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.images import Rows, start_hash
from pneumo_keras.data.phantom import PhantomImages, build_phantom_splits
from pneumo_keras.data.pneumonia_mnist.archive import open_archive


@dataclass(frozen=True)
class ImageArray:
    """Images in memory."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def fingerprint(self) -> str:
        """SHA-256 of all pixels."""
        sha256 = start_hash((len(self), *self.shape))
        sha256.update(self.images.tobytes())
        return sha256.hexdigest()

    def read(self, rows: Rows) -> Images:
        """The images of these rows."""
        return self.images[rows]


def build_phantom_images(n, *, size, seed, prevalence=0.74):
    return load(PhantomImages(n, size, seed, prevalence))


def load_phantom_splits(counts, *, size=28, seed=0):
    """As the source `phantom` draws them."""
    return {
        split: load(images) for split, images in build_phantom_splits(counts, size=size, seed=seed).items()
    }


def load_archive(path, split, *, size):
    images = open_archive(path, split, size=size)
    return ImageArray(np.concatenate(list(images.iterate())), images.labels)


def load(images):
    return ImageArray(images.read(slice(None)), images.labels)


def write_images(folder, images, *, classes=("NORMAL", "PNEUMONIA")):
    """As PNG files in folders of their classes, numbered in their order."""
    for index, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
        path = folder / classes[label] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def write_splits(folder, splits):
    """In the layout of the original images: {train,val,test}/{NORMAL,PNEUMONIA}."""
    for split, images in splits.items():
        write_images(folder / split, images)


def sort_by_class(images):
    """As a folder lists them."""
    order = np.argsort(images.labels, kind="stable")
    return ImageArray(images.images[order], images.labels[order])
