"""The whole classifier as StableHLO, for JAX without Keras and other readers."""

import functools
from pathlib import Path

import jax
import jax.export
import numpy as np

from pneumo_keras.exports.forms import IMAGE_SHAPE
from pneumo_keras.exports.verification import Scoring
from pneumo_keras.model.classifier import Classifier

PLATFORMS = ("cpu", "cuda")


def write_classifier(classifier: Classifier, path: Path) -> None:
    """Writes the program that JAX traces through the Keras model, its weights inside."""
    score = jax.jit(functools.partial(classifier.join(), training=False))
    shape = jax.export.symbolic_shape(", ".join(map(str, IMAGE_SHAPE)))
    # Or JAX would write which line of which file on this machine each operation comes from.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    program = jax.export.export(score, platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, np.float32))
    path.write_bytes(program.serialize())


def load_scoring(path: Path) -> Scoring:
    """The file on JAX."""
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    return lambda images: np.asarray(program.call(images))
