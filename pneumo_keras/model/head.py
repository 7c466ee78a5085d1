"""The head: the only part that learns. Several members, alike but for their seeds, learn side by side."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from jaxtyping import Float

from pneumo_keras.model.initial import draw_nothing, replace_draws
from pneumo_keras.seeds import derive_seeds

Moments = Float[np.ndarray, "*members d"]
"""Of the features (d), or of those that each member learns from (members, d)."""


def build_standardisation(mean: Moments, variance: Moments) -> keras.layers.Normalization:
    """Features to zero mean and unit variance: (n, d), or for members of their own (n, members, d).

    Args:
        mean: Of the training features.
        variance: Of the training features. A feature that hardly varies is not blown up: what
            is far below the average counts as a thousandth of its standard deviation.
    """
    floor = 1e-6 * variance.mean() or 1.0
    variance = np.maximum(variance, floor)
    axes: Any = tuple(range(-variance.ndim, 0))
    return keras.layers.Normalization(axes, mean=mean, variance=variance, name="standardise")


def build_head(
    d: int,
    *,
    standardisation: keras.layers.Normalization | None,
    hidden_units: int,
    dropout: float,
    outputs: int,
    seeds: Sequence[int],
) -> keras.Model:
    """Builds heads that share nothing but their input.

    Args:
        d: Number of features.
        standardisation: Put in front, if any.
        hidden_units: Width of the hidden ReLU layer; 0 makes the heads linear.
        dropout: Share dropped while training, in [0, 1): of each member's own hidden units; of the
            features, the same ones for all members, where the heads are linear.
        outputs: 1 for a sigmoid, 2 for a softmax over normal and pneumonia.
        seeds: Of each member's initial weights; the first one starts the dropout of all.

    Returns:
        A model from features (n, d) to log odds of pneumonia (n, members). All that learns has the
        members as its first axis.
    """
    members = len(seeds)
    draws = [derive_seeds(seed, count=3) for seed in seeds]
    features = keras.Input((d,), name="features")
    x: Any = features
    if standardisation is not None:
        of_their_own = len(standardisation.axis) == 2
        x = standardisation(keras.ops.repeat(x[:, None], members, axis=1) if of_their_own else x)
    seen = "nd" if len(x.shape) == 2 else "nmd"
    hidden = keras.layers.EinsumDense(
        f"{seen},mdh->nmh", (members, hidden_units), bias_axes="mh", activation="relu", name="hidden"
    )
    logits = keras.layers.EinsumDense(
        "nmh,mho->nmo" if hidden_units else f"{seen},mdo->nmo",
        (members, outputs),
        bias_axes="mo",
        name="logits",
    )
    if hidden_units:
        x = _start(hidden, x, [draw[0] for draw in draws])
    if dropout:
        same = (None, 1, d) if seen == "nmd" and not hidden_units else None
        x = keras.layers.Dropout(dropout, noise_shape=same, seed=draws[0][1], name="dropout")(x)
    x = _start(logits, x, [draw[2] for draw in draws])
    return keras.Model(features, x[..., 1] - x[..., 0] if outputs == 2 else x[..., 0], name="head")


def build_decision(*, slope: float = 1.0, intercept: float = 0.0) -> keras.Model:
    """From the members' log odds (n, members) to one probability of pneumonia (n, 1).

    Args:
        slope: Of the calibration: probability = sigmoid(slope * mean log odds + intercept).
        intercept: Of the calibration.
    """
    log_odds = keras.Input((None,), name="log_odds")
    mean = keras.ops.mean(log_odds, axis=-1, keepdims=True)
    scaled = keras.layers.Rescaling(slope, offset=intercept, name="calibration")(mean)
    probability = keras.layers.Activation("sigmoid", name="probability")(scaled)
    return keras.Model(log_odds, probability, name="decision")


def _start(layer: keras.layers.EinsumDense, x: Any, seeds: Sequence[int]) -> Any:
    """The layer's output, with Glorot's initial weights for each member by itself.

    Keras would count members as inputs.
    """
    with replace_draws(draw_nothing):
        output = layer(x)
    kernel: Any = layer.kernel
    one = tuple(kernel.shape[1:])
    glorot = [keras.initializers.GlorotUniform(seed)(one) for seed in seeds]
    kernel.assign(keras.ops.stack(glorot))
    return output
