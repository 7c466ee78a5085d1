"""An exported classifier run by its own runtime beside Keras, on the same films."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from pneumo_keras.data.phantom import MIN_SIZE, PhantomFilms
from pneumo_keras.errors import ExportError
from pneumo_keras.exports.scoring import Films, Scoring

TOLERANCE = 1e-4
"""Of a probability: what two backends of Keras may differ by."""

COUNTS = (48, 8, 8)
"""Films of the training films' size, larger ones and smaller ones."""


@dataclass(frozen=True)
class Verification:
    """What the comparison found.

    Attributes:
        runtime: That ran the file, with its version.
        films: How many were compared.
        sizes: Their heights and widths in pixels.
        largest_difference: Of two probabilities of the same film.
        tolerance: That it had to keep.
        lowest: Of Keras' probabilities.
        highest: Of Keras' probabilities.
    """

    runtime: str
    films: int
    sizes: list[tuple[int, int]]
    largest_difference: float
    tolerance: float
    lowest: float
    highest: float


def verify_scoring(scoring: Scoring, runtime: str, model: keras.Model, film_size: int) -> Verification:
    """Compares the scores of an exported classifier with Keras' on 64 synthetic films of several sizes.

    Args:
        scoring: The exported classifier.
        runtime: The package that runs it.
        model: The saved classifier, films (n, height, width, 1) -> probabilities (n, 1).
        film_size: To which films are brought first, in pixels.

    Raises:
        ExportError: A score differs by more than the tolerance, or is no number.
    """
    # OpenVINO puts the name of its build behind the number.
    version = f"{runtime} {importlib.import_module(runtime).__version__.partition('-')[0]}"
    sizes, probabilities, differences = [], [], []
    for films in draw_films(film_size):
        stock = np.asarray(model.predict_on_batch(films))
        sizes.append(films.shape[1:3])
        probabilities.append(stock)
        differences.append(np.abs(scoring(films) - stock).max())
    largest = float(np.max(differences))
    if not largest <= TOLERANCE:  # also where it is no number
        height, width = sizes[int(np.argmax(differences))]
        raise ExportError(
            f"Nothing was exported: a film of {height} x {width} pixels scores {largest:.1e} away from Keras "
            f"on {version}, more than the {TOLERANCE:.0e} allowed. Try another --format, and report it."
        )
    stock = np.concatenate(probabilities)
    return Verification(
        runtime=version,
        films=len(stock),
        sizes=sizes,
        largest_difference=largest,
        tolerance=TOLERANCE,
        lowest=float(stock.min()),
        highest=float(stock.max()),
    )


def draw_films(film_size: int) -> Iterator[Films]:
    """Synthetic films: of the size itself, larger ones higher than wide, smaller ones wider than high."""
    shapes = (
        (film_size, film_size),
        (2 * film_size + 9, film_size + 5),
        (max(MIN_SIZE, film_size - 3) - 4, max(MIN_SIZE, film_size - 3)),
    )
    for n, (height, width) in zip(COUNTS, shapes, strict=True):
        films = PhantomFilms(n, max(height, width), seed=0).read(slice(None))
        yield films[:, :height, :width, None].astype(np.float32)
