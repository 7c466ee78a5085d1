"""An exported classifier run by its own runtime, and Keras, on the same images."""

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
"""Of pneumonia."""

Scoring = Callable[[GreyImages], Probabilities]
"""What every form makes of images when its own runtime reads it."""

TOLERANCE = 1e-4
"""Of a probability: what two backends of Keras may differ by."""

LOG_ODDS_TOLERANCE = 1e-2
"""Of log odds, relative where they are above 1: rounding of probabilities near 0 or 1 made up to 8e-4."""

EDGE = 1e-5
"""Probabilities nearer to 0 or 1 count as this near: what lies beyond is the rounding of the sigmoid."""

CONTRASTS = 1.0, 0.3
"""Of the first and the last image of a size: real runs score nearly all phantoms 1, but not dim ones."""

COUNTS = (48, 8, 8)
"""Images of the training images' size, larger ones and smaller ones."""


@dataclass(frozen=True)
class Verification:
    """What the comparison found.

    Attributes:
        runtime: That ran the file, with its version.
        images: How many were compared.
        sizes: Their heights and widths in pixels.
        largest_difference: Of two probabilities of the same image.
        tolerance: Of this difference.
        largest_log_odds_difference: Of the same image, relative where they are above 1.
        log_odds_tolerance: Of this difference.
        telling_images: Images that Keras scores neither 0 nor 1, so that a wrong head would show.
    """

    runtime: str
    images: int
    sizes: list[tuple[int, int]]
    largest_difference: float
    tolerance: float
    largest_log_odds_difference: float
    log_odds_tolerance: float
    telling_images: int


def verify_scoring(scoring: Scoring, runtime: str, model: keras.Model, data_size: int) -> Verification:
    """Compares the scores of an exported classifier with Keras' on 64 synthetic images of several sizes.

    Args:
        scoring: The exported classifier.
        runtime: The package that runs it.
        model: The saved classifier, images (n, height, width, 1) -> probabilities (n, 1).
        data_size: To which the model brings images first, in pixels.

    Raises:
        ExportError: A score or its log odds differ by more than the tolerance, or are NaN; or all images
            score 0 or 1, where another head would score the same.
    """
    version = f"{runtime} {importlib.import_module(runtime).__version__}"
    sizes, scores, log_odds, telling = [], [], [], 0
    for images in draw_images(data_size):
        stock, exported = np.asarray(model.predict_on_batch(images)), scoring(images)
        sizes.append(images.shape[1:3])
        scores.append(float(np.abs(exported - stock).max()))
        log_odds.append(_compare_log_odds(exported, stock))
        telling += int(np.count_nonzero((stock > EDGE) & (stock < 1 - EDGE)))
    _check_differences(scores, TOLERANCE, sizes, verb=f"scores on {version}")
    _check_differences(log_odds, LOG_ODDS_TOLERANCE, sizes, verb=f"has log odds on {version}")
    if not telling:
        raise ExportError(
            f"Nothing was exported: Keras scores all {sum(COUNTS)} images within {EDGE:.0e} of 0 or "
            "1, where a "
            "wrong file would score the same. With evaluation.calibration=platt a run may score them between."
        )
    differences = (max(scores), TOLERANCE, max(log_odds), LOG_ODDS_TOLERANCE)
    return Verification(version, sum(COUNTS), sizes, *differences, telling)


def _compare_log_odds(exported: Probabilities, stock: Probabilities) -> float:
    """Largest difference of the log odds of two probabilities, relative where they are above 1."""
    there, here = (logit(np.asarray(scores, np.float64).clip(EDGE, 1 - EDGE)) for scores in (exported, stock))
    return float((np.abs(there - here) / np.abs(here).clip(1)).max())


def _check_differences(
    differences: list[float], tolerance: float, sizes: list[tuple[int, int]], *, verb: str
) -> None:
    for difference, (height, width) in zip(differences, sizes, strict=True):
        if not difference <= tolerance:  # also where it is NaN
            raise ExportError(
                f"Nothing was exported: an image of {height} x {width} pixels {verb} {difference:.1e} away "
                f"from Keras, more than the {tolerance:.0e} allowed. Try another --format, and report it."
            )


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
