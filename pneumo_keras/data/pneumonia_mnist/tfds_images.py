"""Images for TensorFlow Datasets, written and read without TensorFlow.

Importing this module imports tensorflow_datasets, which takes a second: do so inside a function.
"""

import functools
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from google.protobuf import json_format
from PIL import Image

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.data.images import start_hash
from pneumo_keras.data.pneumonia_mnist.archive import ArchivedImages
from pneumo_keras.data.pneumonia_mnist.catalog import (
    CITATION,
    DATA_SET,
    VERSION,
    load_licence,
    load_medmnist_record,
)
from pneumo_keras.runtime.progress import show_progress

SHARD_BYTES = 1 << 26  # TFDS keeps the images of a shard in memory until it is written

Examples = Iterator[tuple[int, dict[str, Any]]]

tfds.disable_progress_bar()


def write_images(images: ArchivedImages, folder: Path) -> bytes:
    """Writes images as a data set of one split; its configuration is the image size.

    Returns:
        SHA-256 of all pixels.

    Raises:
        OSError: `folder` cannot be written.
    """
    builder = _ImageBuilder(images, folder)
    try:
        builder.download_and_prepare(download_dir=folder)
    except RuntimeError as error:  # of the writer of ArrayRecord files, whatever it is
        raise OSError(str(error).partition(";")[0]) from error
    return builder.sha256.digest()


def open_records(folder: Path, split: str) -> Any:
    """The examples of a split as they were written: images as the bytes of PNG files.

    Raises:
        OSError: The metadata of TFDS are damaged; of damaged records other errors may come.
    """
    # Pillow decodes: TFDS would take OpenCV where there is one, and warn elsewhere.
    try:
        builder = tfds.builder_from_directory(folder)
    except json_format.ParseError as error:
        raise OSError(str(error)) from error
    return builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})  # pyright: ignore[reportCallIssue]  # behind a decorator of TFDS


# TFDS registers a pneumonia_mnist too, 28 px only and in need of TensorFlow. Ours does not replace it.
class _ImageBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    name = DATA_SET

    def __init__(self, images: ArchivedImages, folder: Path) -> None:
        self._images, self._size = images, images.size
        self.sha256 = start_hash((len(images.labels), self._size, self._size))
        description = f"Images of {self._size} x {self._size} pixels."
        config = tfds.core.BuilderConfig(name=str(self._size), version=VERSION, description=description)
        self.BUILDER_CONFIGS = [config]
        super().__init__(file_format="array_record", config=config, data_dir=folder)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(self._size, self._size, 1), encoding_format="png")
        label = tfds.features.ClassLabel(names=list(CLASS_NAMES))
        return tfds.core.DatasetInfo(
            builder=self,
            description=load_medmnist_record()["description"],
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            supervised_keys=("image", "label"),
            citation=CITATION,
            license=load_licence(),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable[[], Examples]]]:
        examples, per_shard = self._iterate_examples(), max(1, SHARD_BYTES // self._size**2)
        shards = -(-len(self._images.labels) // per_shard)
        # TFDS asks for one after the other.
        return {self._images.split: [functools.partial(itertools.islice, examples, per_shard)] * shards}

    def _iterate_examples(self) -> Examples:
        labels = iter(enumerate(self._images.labels.tolist()))
        total = len(self._images.labels)
        with show_progress(f"Preparing the {self._images.split} images", total, "images") as progress:
            for images in self._images.iterate():
                self.sha256.update(images.tobytes())
                for image, (index, label) in zip(images, labels, strict=False):
                    # TFDS takes PNG bytes as they are; an array it would pass to TensorFlow.
                    yield index, {"image": to_png(image), "label": label}
                progress.advance(len(images))


def to_png(image: Any) -> bytes:
    """A grey image (height, width) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
