"""PneumoniaMNIST for TensorFlow Datasets, made and read without TensorFlow.

Importing this module imports tensorflow_datasets, which takes a second: do so inside a function.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from PIL import Image

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.data.films import LabelledFilms, count_classes
from pneumo_keras.data.pneumonia_mnist import catalog
from pneumo_keras.data.pneumonia_mnist.archive import load_archive
from pneumo_keras.progress import show_progress


# TFDS lists a pneumonia_mnist of its own, 28 px only and in need of TensorFlow. Out of the
# register, ours leaves that name alone.
class PneumoniaMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Children's chest X-rays of one split, normal or with pneumonia, in the order of the npz file.

    Each configuration is a film size in pixels. `info.metadata["class_counts"]` holds the counts of
    normal and pneumonia films.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "The files of MedMNIST 3: 28, 64, 128 and 224 px, splits train, val and test."
    }
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name=str(size), description=f"Films of {size} x {size} pixels.")
        for size in catalog.SIZES
    ]

    def __init__(self, *, npz: Path, split: str, config: str, data_dir: Path) -> None:
        """Makes a builder for one split of one npz file.

        Args:
            npz: The file of MedMNIST; read by `download_and_prepare` alone.
            split: `train`, `val` or `test`; the others stay closed.
            config: The film size, as a name.
            data_dir: Where the data set is, or will be written.
        """
        self._npz, self._split, self._size = npz, split, int(config)
        self._facts = tfds.core.MetadataDict()
        super().__init__(file_format="array_record", config=config, data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=catalog.load_description(),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(self._size, self._size, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),
                }
            ),
            supervised_keys=("image", "label"),
            homepage=catalog.HOMEPAGE,
            citation=catalog.CITATION,
            license=catalog.load_licence(),
            metadata=self._facts,
            disable_shuffling=True,
        )

    def _log_download_bytes(self) -> None:
        """Says nothing: TFDS would print to stdout, which belongs to results."""

    def _log_download_done(self) -> None:
        """Says nothing, as above."""

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        films = load_archive(self._npz, self._split, size=self._size)
        self._facts["class_counts"] = count_classes(films.labels)
        return {self._split: self._generate_examples(films)}

    def _generate_examples(self, films: LabelledFilms) -> Iterator[tuple[int, dict[str, Any]]]:
        with show_progress(f"Preparing the {self._split} films", len(films), "films") as progress:
            for index, image in enumerate(films.images):
                # TFDS takes PNG bytes as they are; an array it would hand to TensorFlow.
                yield index, {"image": to_png(image), "label": int(films.labels[index])}
                progress.advance(1)


def to_png(image: Any) -> bytes:
    """A grey film (height, width) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
