"""Kinds of perturbation beside corruptions of pixels: how an image is turned, framed and resized."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pneumo_keras.features.augmentation import Augmentation, build_affine
from pneumo_keras.features.views import View, list_versions
from pneumo_keras.runtime.code_fingerprint import fingerprint_code


@dataclass(frozen=True)
class Perturbation:
    """A kind of perturbation.

    Attributes:
        build: From a parameter and a draw from 0 to 1, which decides on directions.
        parameters: Of severities 1 to 5.
    """

    build: Callable[[float, float], Augmentation]
    parameters: tuple[float, ...]


def rotate(degrees: float, draw: float) -> Augmentation:
    """Turns the image, either way."""
    angle = math.copysign(math.radians(degrees), draw - 0.5)
    return Augmentation(build_affine(angle=angle), fill="mirror")


def zoom(factor: float, draw: float) -> Augmentation:
    """Enlarges the image by a factor, or shrinks it by one below 1."""
    return Augmentation(build_affine(zoom=factor), fill="mirror")


def move(share: float, draw: float) -> Augmentation:
    """Moves the image by a share of its edge, in any direction."""
    angle = 2 * math.pi * draw
    move = (share * math.cos(angle), share * math.sin(angle))
    return Augmentation(build_affine(move=move), fill="mirror")


def sharpen(share: float, draw: float) -> Augmentation:
    """Sharpens the image as another resizing kernel would, or smooths it by a share below 0."""
    return Augmentation(sharpness=share)


PERTURBATIONS: Mapping[str, Perturbation] = {
    "rotation": Perturbation(rotate, (3.0, 6.0, 9.0, 12.0, 15.0)),
    "zoom_in": Perturbation(zoom, (1.07, 1.14, 1.21, 1.28, 1.35)),
    "zoom_out": Perturbation(zoom, (1 / 1.07, 1 / 1.14, 1 / 1.21, 1 / 1.28, 1 / 1.35)),
    "shift": Perturbation(move, (0.018, 0.036, 0.054, 0.072, 0.09)),
    "sharpness_up": Perturbation(sharpen, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "sharpness_down": Perturbation(sharpen, (-0.1, -0.2, -0.3, -0.4, -0.5)),
}


def build_severities_view(kind: str, *, n: int, seed: int) -> View:
    """The view of images that come five times, one severity after the other.

    Args:
        kind: Of `PERTURBATIONS`.
        n: Images of one severity.
        seed: Of the directions.
    """
    perturbation, key = PERTURBATIONS[kind], zlib.crc32(kind.encode())

    def draw(row: int) -> Augmentation:
        severity, image = divmod(row, n)
        # Not from 0, since NumPy takes (1, 2, 0) for (1, 2). An image moves one way at all severities.
        direction = np.random.default_rng((seed, key, image + 1)).random()
        return perturbation.build(perturbation.parameters[severity], direction)

    code = fingerprint_code(("features.perturbations",))
    about = {"view": "perturbation", "kind": kind, "images": n, "seed": seed, "code": code}
    return View(draw, kind, {**about, "drawn by": list_versions()})
