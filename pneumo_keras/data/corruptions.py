"""The corruptions of MedMNIST-C for PneumoniaMNIST: thirteen kinds in five severities.

The parameters are those of medmnistc 0.1.0. The benchmark corrupts the grey image as three equal channels and
makes it grey again, so that its noise is drawn for each channel.

References:
    Di Salvo, F., Doerrich, S. & Ledig, C. (2024). MedMNIST-C: Comprehensive benchmark and improved classifier
    robustness by simulating realistic image corruptions. arXiv:2406.17536.
"""

import hashlib
import importlib.metadata
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageEnhance
from scipy.ndimage import correlate1d

from pneumo_keras.arrays import Images, Labels
from pneumo_keras.data.image_preparation import save_as_jpeg
from pneumo_keras.data.images import LabelledImages, Rows
from pneumo_keras.runtime.code_fingerprint import fingerprint_code

Grey = UInt8[np.ndarray, "height width"]
Colour = Float64[np.ndarray, "height width 3"]
"""A grey image as three channels, 0 (black) to 1 (white)."""

PACKAGES = ("numpy", "pillow", "scipy")  # of which another version may corrupt images differently


class Corruption(NamedTuple):
    """Corrupts an image by a parameter, with random numbers; and the parameters of severities 1 to 5."""

    apply: Callable[[Grey, float, np.random.Generator], Grey]
    parameters: tuple[float, ...]


def _pixelate(image: Grey, share: float, random: np.random.Generator) -> Grey:
    """Shrinks each edge to a share of its pixels and enlarges the image again, by mean and repetition."""
    picture = Image.fromarray(image)
    small = picture.resize((int(picture.width * share), int(picture.height * share)), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.BOX))


def _compress(image: Grey, quality: float, random: np.random.Generator) -> Grey:
    """Saves the image as JPEG."""
    return save_as_jpeg(image, int(quality))


def _add_gaussian_noise(image: Grey, deviation: float, random: np.random.Generator) -> Grey:
    """Adds normal noise of a standard deviation in shares of the range."""
    return _change_colour(image, lambda colour: colour + random.normal(scale=deviation, size=colour.shape))


def _add_speckle_noise(image: Grey, deviation: float, random: np.random.Generator) -> Grey:
    """Adds normal noise of a standard deviation in shares of the grey level."""
    return _change_colour(
        image, lambda colour: colour * (1 + random.normal(scale=deviation, size=colour.shape))
    )


def _add_impulse_noise(image: Grey, share: float, random: np.random.Generator) -> Grey:
    """Makes a share of the values black or white, as often the one as the other."""

    def change(colour: Colour) -> Colour:
        hit, white = random.random(colour.shape) <= share, random.random(colour.shape) <= 0.5
        return np.where(hit, white, colour)

    return _change_colour(image, change)


def _add_shot_noise(image: Grey, photons: float, random: np.random.Generator) -> Grey:
    """Counts photons, of which a white pixel receives so many on average."""
    return _change_colour(image, lambda colour: random.poisson(colour * photons) / photons)


def _blur(image: Grey, width: float, random: np.random.Generator) -> Grey:
    """Smooths by a normal kernel of an odd width, with torchvision's standard deviation for it."""
    offsets = np.arange(width) - (width - 1) / 2
    kernel = np.exp(-0.5 * (offsets / (0.3 * ((width - 1) / 2 - 1) + 0.8)) ** 2)
    kernel /= kernel.sum()
    down = correlate1d(image.astype(np.float64), kernel, axis=0, mode="mirror")
    return correlate1d(down, kernel, axis=1, mode="mirror").round().astype(np.uint8)


def _change_brightness(image: Grey, factor: float, random: np.random.Generator) -> Grey:
    """Multiplies the grey levels."""
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(factor))


def _change_contrast(image: Grey, factor: float, random: np.random.Generator) -> Grey:
    """Stretches the grey levels about their mean."""
    return np.asarray(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor))


def _change_gamma(image: Grey, power: float, random: np.random.Generator) -> Grey:
    """Raises the grey levels, as shares of white, to a power."""
    levels = np.arange(256) / 255
    return (255.999 * levels**power).astype(np.uint8)[image]


CORRUPTIONS: Mapping[str, Corruption] = {
    "pixelate": Corruption(_pixelate, (0.8, 0.7, 0.6, 0.5, 0.4)),
    "jpeg_compression": Corruption(_compress, (50, 30, 15, 10, 7)),
    "gaussian_noise": Corruption(_add_gaussian_noise, (0.04, 0.05, 0.06, 0.07, 0.08)),
    "speckle_noise": Corruption(_add_speckle_noise, (0.05, 0.07, 0.10, 0.15, 0.20)),
    "impulse_noise": Corruption(_add_impulse_noise, (0.005, 0.01, 0.013, 0.017, 0.02)),
    "shot_noise": Corruption(_add_shot_noise, (300, 200, 150, 100, 80)),
    "gaussian_blur": Corruption(_blur, (3, 5, 7, 9, 11)),
    "brightness_up": Corruption(_change_brightness, (1.1, 1.2, 1.3, 1.4, 1.5)),
    "brightness_down": Corruption(_change_brightness, (0.9, 0.8, 0.7, 0.6, 0.5)),
    "contrast_up": Corruption(_change_contrast, (1.1, 1.2, 1.3, 1.4, 1.6)),
    "contrast_down": Corruption(_change_contrast, (0.9, 0.8, 0.7, 0.6, 0.4)),
    "gamma_corr_up": Corruption(_change_gamma, (1.1, 1.2, 1.3, 1.4, 1.6)),
    "gamma_corr_down": Corruption(_change_gamma, (0.9, 0.8, 0.7, 0.6, 0.4)),
}
"""By the names of the benchmark."""


@dataclass(frozen=True)
class CorruptedImages:
    """Images that are corrupted when they are read, each always in the same way.

    Attributes:
        images: Uncorrupted.
        kind: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of the random numbers.
    """

    images: LabelledImages
    kind: str
    severity: int
    seed: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape

    @property
    def labels(self) -> Labels:
        """Labels of all images."""
        return self.images.labels

    def fingerprint(self) -> str:
        """SHA-256 of the uncorrupted images, of what corrupts them, and of the code that does it."""
        versions = [importlib.metadata.version(package) for package in PACKAGES]
        code = fingerprint_code(("data.corruptions", "data.image_preparation"))
        about = [self.images.fingerprint(), self.kind, self.severity, self.seed, code, versions]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def read(self, rows: Rows) -> Images:
        """The corrupted images of these rows."""
        images = self.images.read(rows)
        (apply, parameters), kind = CORRUPTIONS[self.kind], zlib.crc32(self.kind.encode())
        corrupted = np.empty_like(images)
        for at, row in enumerate(np.arange(len(self))[rows].tolist()):
            # Not from 0, since NumPy takes (1, 2, 0) for (1, 2).
            random = np.random.default_rng((self.seed, kind, self.severity, row + 1))
            corrupted[at] = apply(images[at], parameters[self.severity - 1], random)
        return corrupted


def _change_colour(image: Grey, change: Callable[[Colour], Colour]) -> Grey:
    """Changes the image as three channels; bytes are cut off as the benchmark cuts them, not rounded."""
    changed = change(np.repeat(image[..., None] / 255, 3, axis=2)).clip(0, 1)
    return np.asarray(Image.fromarray((changed * 255).astype(np.uint8)).convert("L"))
