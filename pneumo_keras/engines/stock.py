"""The backbone on stock Keras, on whatever backend Keras runs. Apart from `runner`: it imports Keras."""

import functools

import keras

from pneumo_keras.engines.runner import Runner, run_ahead
from pneumo_keras.engines.table import Precision


def build_runner(backbone: keras.Model, *, precision: Precision) -> Runner:
    """The backbone as Keras runs it; the precision is float32."""
    return functools.partial(run_ahead, backbone.predict_on_batch)
