"""The whole classifier as StableHLO, for JAX without Keras and whatever else reads it."""

import contextlib
import functools
from collections.abc import Iterator
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
    with _without_source_lines():
        program = jax.export.export(score, platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, np.float32))
    path.write_bytes(program.serialize())


@contextlib.contextmanager
def _without_source_lines() -> Iterator[None]:
    """JAX would write which line of which file on this machine each operation comes from."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)


def load_scoring(path: Path) -> Scoring:
    """The file on JAX."""
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    return lambda images: np.asarray(program.call(images))
