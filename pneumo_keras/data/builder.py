"""ImageSet for TensorFlow Datasets, made and read without TensorFlow.

Importing this module imports tensorflow_datasets, which takes a second: do so inside a function.
"""

import functools
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.data.images import count_classes, hash_along
from pneumo_keras.data.preparation import Edition, RawImages, sum_pixels
from pneumo_keras.runtime.progress import show_progress

# TFDS holds the images of a shard until it is written, and those of all shards if it may sort them.
SHARD_BYTES = 1 << 26

Examples = Iterator[tuple[int, dict[str, Any]]]


tfds.disable_progress_bar()


# TFDS lists a pneumonia_mnist of its own, 28 px only and in need of TensorFlow. Out of the
# register, ours leaves that name alone.
class ImageBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Chest images of one split, normal or with pneumonia, in their order.

    Its configuration is the image size in pixels. `info.metadata` holds `class_counts`, the counts of
    normal and pneumonia images, and `fingerprint`, the SHA-256 of their pixels.
    """

    def __init__(
        self, edition: Edition, *, size: int, data_dir: Path, images: RawImages | None = None
    ) -> None:
        """Makes a builder for one split.

        Args:
            edition: What the data set is called.
            size: Height and width of the images in pixels.
            data_dir: Where the data set is, or will be written.
            images: Those that `download_and_prepare` writes; not needed for reading.
        """
        self.name = edition.name  # pyright: ignore[reportAttributeAccessIssue]  # TFDS wants a class for each name
        self._edition, self._size, self._images = edition, size, images
        self.checksums: list[int] = []  # of the pixels of each image that was written
        self._facts = tfds.core.MetadataDict()
        config = tfds.core.BuilderConfig(
            name=str(size),
            version=edition.version,
            release_notes=dict(edition.release_notes),
            description=f"Images of {size} x {size} pixels.",
        )
        super().__init__(file_format="array_record", config=config, data_dir=data_dir)

    def open_records(self, split: str) -> Any:
        """The examples of a split as they were written: images as the bytes of PNG files."""
        # Pillow decodes: TFDS would take OpenCV where there is one, and miss it aloud elsewhere.
        decoders = {"image": tfds.decode.SkipDecoding()}
        return self.as_data_source(split=split, decoders=decoders)  # pyright: ignore[reportCallIssue]  # behind a decorator of TFDS

    def _create_builder_config(self, builder_config: Any, version: Any) -> Any:
        """The one that is given: TFDS would warn of it, since it knows none of the class."""
        return builder_config

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._edition.description,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(self._size, self._size, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),
                }
            ),
            supervised_keys=("image", "label"),
            homepage=self._edition.homepage,
            citation=self._edition.citation,
            license=self._edition.licence,
            metadata=self._facts,
            disable_shuffling=True,
        )

    def _log_download_bytes(self) -> None:
        """Says nothing: TFDS would print to stdout, which belongs to results."""

    def _log_download_done(self) -> None:
        """Says nothing, as above."""

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Examples]]]:
        images = self._images
        if images is None:
            raise ValueError("There are no images to prepare")
        self._facts["class_counts"] = count_classes(images.labels)
        examples, in_shard = self._iterate_examples(images), max(1, SHARD_BYTES // self._size**2)
        shards = -(-len(images) // in_shard)
        # TFDS asks for one after the other.
        return {images.split: [functools.partial(itertools.islice, examples, in_shard)] * shards}

    def _iterate_examples(self, source: RawImages) -> Examples:
        index = itertools.count()
        with show_progress(f"Preparing the {source.split} images", len(source), "images") as progress:
            for images, digest in hash_along((len(source), *source.shape), source.iterate()):
                self._facts["fingerprint"] = digest
                for image in images:
                    at = next(index)
                    self.checksums.append(sum_pixels(image))
                    # TFDS takes PNG bytes as they are; an array it would hand to TensorFlow.
                    yield at, {"image": to_png(image), "label": int(source.labels[at])}
                progress.advance(len(images))


def to_png(image: Any) -> bytes:
    """A grey image (height, width) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
