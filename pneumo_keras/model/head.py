"""The head, which is fitted first. Several members that differ only in their seeds are fitted together."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from pneumo_keras.model.inference import HeadMembers, MemberLayer, Moments, bound_variance
from pneumo_keras.model.layers import build_glorot, list_operations, to_float64
from pneumo_keras.runtime.private_apis import override_initializers
from pneumo_keras.runtime.seeds import derive_seeds

EQUATION = "nd,mdo->nmo"  # features, kernels, outputs


def build_standardisation(mean: Moments, variance: Moments) -> keras.layers.Normalization:
    """Features (n, d) to zero mean and unit variance, by those of the training features."""
    return keras.layers.Normalization(-1, mean=mean, variance=bound_variance(variance), name="standardise")


def build_head(
    d: int,
    *,
    moments: tuple[Moments, Moments] | None,
    hidden_units: int,
    dropout: float,
    outputs: int,
    seeds: Sequence[int],
) -> keras.Model:
    """Builds heads that share only their input.

    Args:
        d: Number of features.
        moments: Mean and variance that features are standardised by, each (d), or (members, d) where
            each member has its own; None leaves features as they are.
        hidden_units: Width of the hidden ReLU layer; 0 makes the heads linear.
        dropout: Share dropped while training, in [0, 1): of each member's own hidden units; of the
            features, the same ones for all members, where the heads are linear.
        outputs: 1 for a sigmoid, 2 for a softmax over normal and pneumonia.
        seeds: Seeds of each member's initial weights; the first one starts the dropout of all.

    Returns:
        A model from features (n, d) to log odds of pneumonia (n, members). All that learns has the
        members as its first axis.
    """
    members = len(seeds)
    draws = [derive_seeds(seed, count=3) for seed in seeds]
    drop = keras.layers.Dropout(dropout, seed=draws[0][1], name="dropout")
    of_members = moments is not None and moments[0].ndim == 2
    features = keras.Input((d,), name="features")
    x: Any = features
    if moments is not None and not of_members:
        x = build_standardisation(*moments)(x)
    if not hidden_units and not of_members:
        x = drop(x)
    name, units, activation = ("hidden", hidden_units, "relu") if hidden_units else ("logits", outputs, None)
    shape: Any = (members, units)
    settings = {"bias_axes": "mo", "activation": activation, "name": name}
    if moments is not None and of_members:
        first = StandardisingDense(EQUATION, shape, **settings)
        first.standardise_by(*moments, drop=drop if dropout and not hidden_units else None)
    else:
        first = keras.layers.EinsumDense(EQUATION, shape, **settings)
    x = _start(first, x, [draw[0 if hidden_units else 2] for draw in draws])
    if hidden_units:
        logits = keras.layers.EinsumDense("nmh,mho->nmo", (members, outputs), bias_axes="mo", name="logits")
        x = _start(logits, drop(x), [draw[2] for draw in draws])
    return keras.Model(features, x[..., 1] - x[..., 0] if outputs == 2 else x[..., 0], name="head")


class StandardisingDense(keras.layers.EinsumDense):
    """A dense layer (n, d) -> (n, members, outputs) whose members standardise features each in its own way.

    Moments are multiplied into the kernels, so that images are not standardised once for each member.
    For cross-validation: it is fitted, never saved.
    """

    def standardise_by(self, mean: Moments, variance: Moments, *, drop: keras.layers.Dropout | None) -> None:
        """Must be called once, before the layer is, with each member's moments (members, d)."""
        self._mean = mean[..., None].astype(np.float32)
        self._deviation = np.sqrt(bound_variance(variance))[..., None].astype(np.float32)
        self._drop = drop

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        ops: Any = keras.ops
        kernel = ops.divide(self.kernel, self._deviation)
        shifts = ops.multiply(kernel, self._mean)
        if self._drop is None:
            shift = ops.sum(shifts, axis=1)
        else:
            kept = self._drop(ops.ones_like(inputs), training=training)
            inputs = inputs * kept
            shift = ops.einsum(self.equation, kept, shifts)
        return self.activation(ops.einsum(self.equation, inputs, kernel) - shift + self.bias)


def build_decision(*, slope: float = 1.0, intercept: float = 0.0) -> keras.Model:
    """From the members' log odds (n, members) to the probability sigmoid(slope * mean + intercept) (n, 1)."""
    log_odds = keras.Input((None,), name="log_odds")
    mean = keras.ops.mean(log_odds, axis=-1, keepdims=True)
    scaled = keras.layers.Rescaling(slope, offset=intercept, name="calibration")(mean)
    probability = keras.layers.Activation("sigmoid", name="probability")(scaled)
    return keras.Model(log_odds, probability, name="decision")


def _start(layer: keras.layers.EinsumDense, x: Any, seeds: Sequence[int]) -> Any:
    """The layer's output, with Glorot's initial weights for each member by itself.

    Keras would count members as inputs.
    """
    with override_initializers():
        output = layer(x)
    kernel: Any = layer.kernel
    one = tuple(kernel.shape[1:])
    kernel.assign(np.stack([build_glorot(seed)(one) for seed in seeds]))
    return output


def read_members(head: keras.Model) -> HeadMembers:
    """Reads a head of `build_head`, deviations and the difference of two outputs folded into its kernels."""
    shift, deviation, layers = np.zeros(1), np.ones(1), []
    for layer in list_operations(head):
        if isinstance(layer, keras.layers.Normalization):
            shift = to_float64(layer.mean)[0]
            deviation = np.maximum(np.sqrt(to_float64(layer.variance)[0]), keras.config.epsilon())
        elif isinstance(layer, keras.layers.EinsumDense):
            layers.append(layer)
    kernels = [to_float64(layer.kernel) for layer in layers]
    biases = [to_float64(layer.bias) for layer in layers]
    kernels[0] = kernels[0] / deviation[:, None]
    if kernels[-1].shape[-1] == 2:
        kernels[-1] = kernels[-1][..., 1:] - kernels[-1][..., :1]
        biases[-1] = biases[-1][..., 1:] - biases[-1][..., :1]
    relus = [layer.activation is keras.activations.relu for layer in layers]
    return HeadMembers(shift, tuple(map(MemberLayer, kernels, biases, relus)))
