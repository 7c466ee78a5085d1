"""Images larger than those of a training, each prepared as it is read.

A module of its own: a source makes them, and who corrupts pixels does so before they are prepared.
"""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import LabelledImages, Preparation, Rows
from pneumo_keras.runtime.code_fingerprint import fingerprint_code


@dataclass(frozen=True)
class ResizedImages:
    """Images prepared as the training images of a run were.

    Attributes:
        images: As they lie there, square.
        preparation: Of the training images.
    """

    images: LabelledImages
    preparation: Preparation

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.preparation.size, self.preparation.size

    @property
    def labels(self) -> Labels:
        """Of all images."""
        return self.images.labels

    def fingerprint(self) -> str:
        """SHA-256 of the images as they lie there, of their preparation, and of the code that does it."""
        code = fingerprint_code(("data.image_preparation",))
        about = [
            self.images.fingerprint(),
            asdict(self.preparation),
            code,
            importlib.metadata.version("pillow"),
        ]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def read(self, rows: Rows) -> Images:
        """The prepared images of these rows."""
        images = [prepare_image(Image.fromarray(image), self.preparation) for image in self.images.read(rows)]
        return np.stack(images) if images else np.empty((0, *self.shape), np.uint8)
