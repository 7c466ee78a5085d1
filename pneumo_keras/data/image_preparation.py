"""How an image becomes one like the training images, to the byte."""

import hashlib
import importlib.metadata
import io
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.images import ImageSet, LabelledImages, Preparation, Rows
from pneumo_keras.runtime.code_fingerprint import fingerprint_code

log = logging.getLogger("pneumo_keras")

JPEG_QUALITY = 75  # Pillow's default, with which PneumoniaMNIST was saved
JPEG_LENGTH = 0.8  # with JPEG mean lengths of 0.93 to 0.97 were measured, without it below 0.2
SAMPLE = 512  # images that are measured, at most
BLOCK = 8  # pixels along an edge of what JPEG transforms at once

# Steps of the coefficients of a grey block at quality 50, ITU-T T.81, table K.1: rows go down.
STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


def prepare_image(image: Image.Image, preparation: Preparation) -> UInt8[np.ndarray, "size size"]:
    """Cuts out the square in the middle, shrinks or enlarges it, and saves it as JPEG if that is wanted.

    An image that already has the size stays as it is: a second JPEG would change it.

    Args:
        image: Grey, 0 (black) to 255 (white), mode "L" or "F", upright, with square pixels.
        preparation: How the training images were prepared.

    References:
        Found by comparison: 348 of 348 full-size originals become their images of PneumoniaMNIST at 28 px, to
        the byte. The paper (Yang, J. et al. (2023). MedMNIST v2. Scientific Data 10, 41) states that they
        were cut to the square in the middle and resized by cubic interpolation, which gives other pixels.
    """
    size = preparation.size, preparation.size
    if image.size == size:
        return _to_bytes(image)
    grey = _to_bytes(crop_square(image).resize(size, Image.Resampling.BILINEAR))
    return grey if preparation.jpeg_quality is None else save_as_jpeg(grey, preparation.jpeg_quality)


@dataclass(frozen=True)
class ResizedImages:
    """Larger square images, each prepared as the training images of a run were when it is read."""

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
        """Labels of all images."""
        return self.images.labels

    def fingerprint(self) -> str:
        """SHA-256 of the larger images, of the preparation, and of the code that does it."""
        code = fingerprint_code(("data.image_preparation",)), importlib.metadata.version("pillow")
        about = [self.images.fingerprint(), asdict(self.preparation), *code]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def read(self, rows: Rows) -> Images:
        """The prepared images of these rows."""
        images = [prepare_image(Image.fromarray(image), self.preparation) for image in self.images.read(rows)]
        return np.stack(images) if images else np.empty((0, *self.shape), np.uint8)


def crop_square(image: Image.Image) -> Image.Image:
    """The square in the middle; of a border of an odd width the half is rounded to even, as Python rounds."""
    edge = min(image.size)
    left, top = round((image.width - edge) / 2), round((image.height - edge) / 2)
    return image.crop((left, top, left + edge, top + edge))


def save_as_jpeg(grey: UInt8[np.ndarray, "height width"], quality: int) -> UInt8[np.ndarray, "height width"]:
    """The same image, saved as JPEG of a quality from 1 to 95 and read again."""
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def measure_jpeg(images: Images) -> float:
    """How clearly images of 8 x 8 pixels or more were saved as JPEG of quality 75 at their size, in [0, 1].

    The coefficients of the blocks' cosine transforms are then multiples of fixed steps, except for rounding.
    As angles on a circle whose circumference is a step they are equal, and their mean has a length near 1; if
    not, they are random. Coefficients that round to zero would do so in any image.
    """
    steps = ((STEPS * (200 - 2 * JPEG_QUALITY) + 50) // 100).clip(1)
    multiples = _transform_blocks(images) / steps
    used = np.abs(multiples) > 0.5
    used[..., 0, 0] = False  # the mean, which brightness alone changes
    return float(np.abs(np.exp(2j * np.pi * multiples[used]).mean())) if used.any() else 0.0


def measure_sample(images: ImageSet) -> float:
    """The same of a few hundred images of a data set."""
    rows = np.unique(np.linspace(0, len(images) - 1, SAMPLE).round().astype(int))
    return measure_jpeg(images.read(rows))


def detect_preparation(images: ImageSet) -> Preparation:
    """How square images were prepared, as far as they show it: looks for JPEG in a few hundred of them."""
    length = measure_sample(images)
    found = Preparation(images.shape[0], JPEG_QUALITY if length > JPEG_LENGTH else None)
    log.info(
        "The images %s (%.2f; 1 where all were, 0 where none was): others will be prepared alike: %s",
        f"were saved as JPEG of quality {JPEG_QUALITY}" if found.jpeg_quality else "were not saved as JPEG",
        length,
        found.describe(),
    )
    return found


def _transform_blocks(images: Images) -> Float64[np.ndarray, "n down across 8 8"]:
    from scipy.fft import dctn  # a third of the start of a process that decodes, which measures nothing

    n, height, width = images.shape
    down, across = height // BLOCK, width // BLOCK
    cropped = images[:, : down * BLOCK, : across * BLOCK].astype(np.float64) - 128
    blocks = cropped.reshape(n, down, BLOCK, across, BLOCK).swapaxes(2, 3)
    transformed: Any = dctn(blocks, axes=(3, 4), norm="ortho")
    return transformed


def _to_bytes(image: Image.Image) -> UInt8[np.ndarray, "height width"]:
    return np.asarray(image).round().clip(0, 255).astype(np.uint8)
