"""The backbone on stock Keras, on whatever backend Keras runs."""

import functools

import keras

from pneumo_keras.engines.runner import Runner, run_ahead
from pneumo_keras.engines.table import Precision


def build_runner(backbone: keras.Model, *, precision: Precision) -> Runner:
    """Runs the backbone as it is.

    Args:
        backbone: Images (n, size, size, 3) in [-1, 1] -> features (n, d).
        precision: "float32", the only one that `engines.table` offers here.
    """
    return functools.partial(run_ahead, backbone.predict_on_batch)
