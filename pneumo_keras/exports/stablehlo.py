"""The whole classifier as StableHLO, for JAX without Keras and whatever else reads it."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from pneumo_keras.exports.scoring import FILM_SHAPE, Films, Probabilities, Scoring
from pneumo_keras.model.classifier import Classifier

PLATFORMS = ("cpu", "cuda")


def write_classifier(classifier: Classifier, path: Path) -> None:
    """Writes the program that JAX traces through the Keras model, its weights inside."""
    score = jax.jit(functools.partial(classifier.join(), training=False))
    shape = jax.export.symbolic_shape(", ".join(map(str, FILM_SHAPE)))
    program = jax.export.export(score, platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, np.float32))
    path.write_bytes(program.serialize())


def load_scoring(path: Path) -> Scoring:
    """The file on JAX."""
    return functools.partial(_score, jax.export.deserialize(bytearray(path.read_bytes())))


def _score(program: Any, films: Films) -> Probabilities:
    return np.asarray(program.call(films))
