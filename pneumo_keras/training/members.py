"""Loss, metrics and optimisers for heads that are fitted together, each as if it were alone."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

ops: Any = keras.ops  # untyped

PADDING = -1
"""Label of a row without an image, in batches that must be of one size."""


def to_losses(labels: Any, log_odds: Any) -> Any:
    """Cross-entropy in nats (n, members) of labels (n) and log odds (n, members)."""
    labels = ops.cast(labels, log_odds.dtype)[:, None]
    return ops.softplus(log_odds) - labels * log_odds


def _to_counts(labels: Any, dtype: Any, weights: Any = None) -> Any:
    """Weights (n) or (n, members) as (n, 1) or (n, members), 0 for padding; 1 without weights."""
    counts = ops.cast(ops.not_equal(labels, PADDING), dtype)[:, None]
    if weights is None:
        return counts
    return counts * ops.cast(weights if len(weights.shape) == 2 else weights[:, None], dtype)


class MemberCrossentropy(keras.losses.Loss):
    """Mean cross-entropy over images and members; images may have weights (n) or (n, members)."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        losses = to_losses(y_true, y_pred) * _to_counts(y_true, y_pred.dtype, sample_weight)
        return ops.sum(losses) / (ops.sum(_to_counts(y_true, y_pred.dtype)) * y_pred.shape[1])


class MemberMetrics(keras.metrics.Metric):
    """Loss and accuracy of each member: `loss_1`, `accuracy_1`, `loss_2`, ..."""

    def __init__(self, members: int) -> None:
        super().__init__(name="members")
        self._sums: Any = self.add_variable((3, members), "zeros", name="sums")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        hits = ops.equal(y_pred > 0, ops.cast(y_true, "bool")[:, None])
        weights = _to_counts(y_true, y_pred.dtype, sample_weight)
        figures = [to_losses(y_true, y_pred), ops.cast(hits, y_pred.dtype), ops.ones_like(y_pred)]
        self._sums.assign_add(ops.stack([ops.sum(part * weights, axis=0) for part in figures]))

    def result(self) -> dict[str, Any]:
        means = ops.divide_no_nan(self._sums[:2], self._sums[2])
        return {
            f"{name}_{member + 1}": means[row, member]
            for row, name in enumerate(("loss", "accuracy"))
            for member in range(means.shape[1])
        }


class CountedLoss(keras.metrics.Metric):
    """The mean weighted loss over the images so far. Keras' own, which it replaces, would count padding."""

    def __init__(self) -> None:
        super().__init__(name="loss")
        self._sums: Any = self.add_variable((2,), "zeros", name="sums")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        weights = _to_counts(y_true, y_pred.dtype, sample_weight)
        losses = ops.mean(to_losses(y_true, y_pred) * weights, axis=1)
        self._sums.assign_add(ops.stack([ops.sum(losses), ops.sum(_to_counts(y_true, y_pred.dtype))]))

    def result(self) -> Any:
        return ops.divide_no_nan(self._sums[0], self._sums[1])


class MemberAdamW(keras.optimizers.Adam):
    """Adam with decoupled weight decay, and a rate and a decay for each member.

    Every variable has the members as its first axis. The loss is a mean over members, so each sees its
    gradient divided by their number. Adam's steps depend on that only by epsilon, which is divided too. Each
    step shrinks weights by rate times decay; `schedule` multiplies all rates.

    References:
        Loshchilov, I. & Hutter, F. (2019). Decoupled weight decay regularization. ICLR.
    """

    def __init__(self, rates: Sequence[float], decays: Sequence[float], schedule: Any) -> None:
        super().__init__(learning_rate=schedule, epsilon=1e-7 / len(rates))
        self.rates = _add_rates(self, rates)
        self._decays = np.array(decays, np.float32)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rates = _align(variable, self.rates.value * learning_rate)
        variable.assign(variable * (1 - rates * _align(variable, self._decays)))
        super().update_step(gradient, variable, rates)


class MemberSGD(keras.optimizers.SGD):
    """Gradient descent with Nesterov momentum and an L2 penalty, with a rate and a penalty for each member.

    A step of the weights moves log odds by the sum over their inputs, a step of the bias by itself.
    A rate for both would leave the bias behind or blow up the weights, so weights have the rate times
    `STEP` over the number of their inputs; rates of 1 to 2 suit standardised features.

    Decay / 2 times the sum of its squared weights, without biases, is added to the mean loss of a member.
    1 / (C n) gives scikit-learn's logistic regression with C on n images. `schedule` multiplies all rates.
    """

    STEP = 10
    MOMENTUM = 0.9

    def __init__(self, rates: Sequence[float], decays: Sequence[float], schedule: Any) -> None:
        super().__init__(learning_rate=schedule, momentum=self.MOMENTUM, nesterov=True)
        self.rates = _add_rates(self, rates)
        self._decays = np.array(decays, np.float32)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rates = _align(variable, self.rates.value * learning_rate)
        gradient = gradient * len(self._decays)  # the loss is a mean over members
        if len(variable.shape) == 3:  # (members, inputs, outputs)
            rates = rates * self.STEP / variable.shape[1]
            gradient = gradient + _align(variable, self._decays) * variable
        super().update_step(gradient, variable, rates)


def _add_rates(optimizer: keras.optimizers.Optimizer, rates: Sequence[float]) -> Any:
    variable: Any = optimizer.add_variable((len(rates),), name="rates")
    variable.assign(np.array(rates, np.float32))
    return variable


def _align(variable: Any, of_members: Any) -> Any:
    """A number for each member, shaped to multiply a variable whose first axis they are."""
    return ops.reshape(of_members, (-1, *[1] * (len(variable.shape) - 1)))
