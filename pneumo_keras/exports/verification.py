"""Comparison of an exported classifier on its own runtime with Keras, on the same images."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
from jaxtyping import Float32
from scipy.special import logit

from pneumo_keras.data.phantom import MIN_SIZE, PhantomImages
from pneumo_keras.errors import ExportError

GreyImages = Float32[np.ndarray, "n height width 1"]
"""0 (black) to 255 (white), of any size."""

Probabilities = Float32[np.ndarray, "n 1"]
"""Probabilities of pneumonia."""

Scoring = Callable[[GreyImages], Probabilities]
"""An exported classifier on its own runtime."""

TOLERANCE = 1e-4  # of a probability: what two backends of Keras may differ by
# Of log odds, relative where they are above 1: rounding of probabilities near 0 or 1 made up to 8e-4.
LOG_ODDS_TOLERANCE = 1e-2
SATURATION = 1e-5  # probabilities nearer to 0 or 1 are clipped to this: beyond is the rounding of the sigmoid
CONTRASTS = (
    1.0,
    0.3,
)  # of the first and last image of a size: real runs score most phantoms 1, but not dim ones
COUNTS = (48, 8, 8)  # images of the training images' size, larger ones and smaller ones


@dataclass(frozen=True)
class Verification:
    """What the comparison found.

    Attributes:
        runtime: The package that ran the file, with its version.
        images: Number of images that were compared.
        sizes: Their heights and widths in pixels.
        largest_difference: Largest difference between two probabilities of one image.
        largest_log_odds_difference: The same of log odds, relative where they are above 1.
        unsaturated_images: Images that Keras scores neither 0 nor 1, which reveal a wrong head.
        tolerance: Largest allowed difference of probabilities.
        log_odds_tolerance: Largest allowed difference of log odds.
    """

    runtime: str
    images: int
    sizes: list[tuple[int, int]]
    largest_difference: float
    largest_log_odds_difference: float
    unsaturated_images: int
    tolerance: float = TOLERANCE
    log_odds_tolerance: float = LOG_ODDS_TOLERANCE


def verify_scoring(scoring: Scoring, runtime: str, model: keras.Model, data_size: int) -> Verification:
    """Compares the scores of an exported classifier with Keras' on 64 synthetic images of several sizes.

    Args:
        scoring: The exported classifier.
        runtime: The package that runs it.
        model: The saved classifier, images (n, height, width, 1) -> probabilities (n, 1).
        data_size: Size to which the model first resizes images, in pixels.

    Raises:
        ExportError: A score or its log odds differ by more than the tolerance, or are NaN; or all images
            score 0 or 1, where another head would score the same.
    """
    version = f"{runtime} {importlib.import_module(runtime).__version__}"
    sizes, differences, unsaturated = [], [], 0
    for images in draw_images(data_size):
        stock, exported = np.asarray(model.predict_on_batch(images)), scoring(images)
        found = float(np.abs(exported - stock).max()), _compare_log_odds(exported, stock)
        _, height, width, _ = images.shape
        kinds = (("scores", TOLERANCE), ("has log odds", LOG_ODDS_TOLERANCE))
        for (kind, tolerance), difference in zip(kinds, found, strict=True):
            if not difference <= tolerance:  # also where it is NaN
                raise ExportError(
                    f"Nothing was exported: an image of {height} x {width} pixels {kind} on {version} "
                    f"{difference:.1e} away from Keras, more than the {tolerance:.0e} allowed. Try another "
                    "--format, and report it."
                )
        sizes.append((height, width))
        differences.append(found)
        unsaturated += int(np.count_nonzero((stock > SATURATION) & (stock < 1 - SATURATION)))
    if not unsaturated:
        raise ExportError(
            f"Nothing was exported: Keras scores all {sum(COUNTS)} images within {SATURATION:.0e} of 0 or 1, "
            "where a wrong file would score the same. With evaluation.calibration=platt scores may differ."
        )
    largest, largest_log_odds = map(max, zip(*differences, strict=True))
    return Verification(version, sum(COUNTS), sizes, largest, largest_log_odds, unsaturated)


def _compare_log_odds(exported: Probabilities, stock: Probabilities) -> float:
    """Largest difference of the log odds of two probabilities, relative where they are above 1."""
    clipped = (
        np.asarray(scores, np.float64).clip(SATURATION, 1 - SATURATION) for scores in (exported, stock)
    )
    there, here = map(logit, clipped)
    return float((np.abs(there - here) / np.abs(here).clip(1)).max())


def draw_images(data_size: int) -> Iterator[GreyImages]:
    """Synthetic images: of the size itself, larger ones higher than wide, smaller ones wider than high.

    Each is dimmer than the one before.
    """
    shapes = (
        (data_size, data_size),
        (2 * data_size + 9, data_size + 5),
        (max(MIN_SIZE, data_size - 3) - 4, max(MIN_SIZE, data_size - 3)),
    )
    for n, (height, width) in zip(COUNTS, shapes, strict=True):
        images = PhantomImages(n, max(height, width), seed=0).read(slice(None))
        contrasts = np.linspace(*CONTRASTS, n, dtype=np.float32)[:, None, None, None]
        yield images[:, :height, :width, None] * contrasts
