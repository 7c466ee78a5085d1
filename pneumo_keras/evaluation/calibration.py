"""Scores that mean what they say: scaling on validation films, and another share of pneumonia.

Scaling and correction keep the order of the films, and with it the AUC (a negative slope aside).
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.evaluation.metrics import has_both_classes

Logits = Float64[np.ndarray, " n"]

TEMPERATURES = (0.01, 100.0)

Method = Literal["none", "temperature", "platt"]


@dataclass(frozen=True)
class LogitScaling:
    """Calibrated score = sigmoid(slope * logit + intercept).

    Attributes:
        slope: 1 / temperature.
        intercept: 0 for temperature scaling.
        method: `none`, `temperature` or `platt`.
    """

    slope: float
    intercept: float
    method: str

    @property
    def temperature(self) -> float:
        """Above 1 the scores were too sure of themselves."""
        return 1 / self.slope

    def to_scores(self, logits: Logits) -> Scores:
        """Calibrated probabilities of pneumonia."""
        return expit(self.slope * logits + self.intercept)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def fit_scaling(method: Method, labels: Labels, logits: Logits) -> LogitScaling:
    """Fits the scaling that the method names; `none` leaves logits alone.

    Args:
        method: `none`, `temperature` (a slope) or `platt` (a slope and an intercept).
        labels: Of films that are not evaluated later.
        logits: Of the same films.

    Raises:
        DataError: A class is missing.
    """
    if method == "none":
        return LogitScaling(slope=1.0, intercept=0.0, method="none")
    return {"temperature": fit_temperature, "platt": fit_platt}[method](labels, logits)


def to_mean_loss(targets: Float64[np.ndarray, " n"], logits: Logits) -> float:
    """Mean cross-entropy in nats, from logits: no clipping needed."""
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def to_platt_targets(labels: Labels) -> Float64[np.ndarray, " n"]:
    """(n1 + 1) / (n1 + 2) for the n1 pneumonia films, 1 / (n0 + 2) for the n0 normal ones.

    Against 1 and 0 films without overlap ask for an infinite slope; against these they do not.

    References:
        Platt, J. (1999). Probabilistic outputs for support vector machines and comparisons to
        regularized likelihood methods. Advances in Large Margin Classifiers, 61-74.
    """
    pneumonia = int(labels.sum())
    normal = len(labels) - pneumonia
    return np.where(labels == 1, (pneumonia + 1) / (pneumonia + 2), 1 / (normal + 2))


def fit_temperature(labels: Labels, logits: Logits) -> LogitScaling:
    """Fits one temperature in [0.01, 100] by the log loss against Platt's targets.

    Raises:
        DataError: A class is missing.

    References:
        Guo, C., Pleiss, G., Sun, Y. & Weinberger, K. Q. (2017). On calibration of modern neural
        networks. ICML. There the targets are 1 and 0.
    """
    check_calibration_labels(labels)
    targets = to_platt_targets(labels)
    # The loss is convex in the slope, so it has one minimum in its logarithm too.
    best = minimize_scalar(
        lambda log_temperature: to_mean_loss(targets, logits * math.exp(-log_temperature)),
        bounds=[math.log(bound) for bound in TEMPERATURES],
        method="bounded",
        options={"xatol": 1e-10},
    )
    return LogitScaling(slope=math.exp(-float(best.x)), intercept=0.0, method="temperature")


def fit_platt(labels: Labels, logits: Logits) -> LogitScaling:
    """Fits slope and intercept by the log loss against Platt's targets.

    Raises:
        DataError: A class is missing.

    References:
        Platt (1999), see `to_platt_targets`.
    """
    check_calibration_labels(labels)
    targets = to_platt_targets(labels)
    # In standard units the two parameters are about equally large and nearly independent.
    centre, spread = float(logits.mean()), float(logits.std()) or 1.0
    standard = (logits - centre) / spread

    def to_loss_and_gradient(
        parameters: Float64[np.ndarray, "2"],
    ) -> tuple[float, Float64[np.ndarray, "2"]]:
        scaled = parameters[0] * standard + parameters[1]
        errors = expit(scaled) - targets
        return to_mean_loss(targets, scaled), np.array([np.mean(errors * standard), np.mean(errors)])

    best = minimize(
        to_loss_and_gradient, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-9}
    )
    slope = float(best.x[0]) / spread
    return LogitScaling(slope=slope, intercept=float(best.x[1]) - slope * centre, method="platt")


def check_calibration_labels(labels: Labels) -> None:
    """Checks that there is something to calibrate against.

    Raises:
        DataError: A class is missing.
    """
    if not has_both_classes(labels):
        pneumonia = int(labels.sum())
        raise DataError(
            "Calibration takes normal and pneumonia films. "
            f"Received: {len(labels) - pneumonia} normal, {pneumonia} pneumonia."
        )


def to_effective_prevalence(
    normal: int, pneumonia: int, *, normal_weight: float = 1.0, pneumonia_weight: float = 1.0
) -> float:
    """Share of pneumonia that a classifier saw in training, class weights counted: balanced ones give 0.5.

    Args:
        normal: Normal training films.
        pneumonia: Pneumonia training films.
        normal_weight: Class weight of a normal film.
        pneumonia_weight: Class weight of a pneumonia film.
    """
    weight = pneumonia * pneumonia_weight
    return weight / (weight + normal * normal_weight)


def correct_prevalence(scores: Scores, *, trained: float, stated: float) -> Scores:
    """Scores for films with another share of pneumonia than the classifier was trained on.

    The odds are multiplied by the ratio of the two prevalences' odds. That is right where only the
    shares differ, not the looks of normal and pneumonia films.

    Args:
        scores: Calibrated for `trained`.
        trained: Share of pneumonia in training, see `to_effective_prevalence`.
        stated: Share of pneumonia where the scores are used; never learnt from test labels.

    Raises:
        SettingsError: A prevalence is not in (0, 1).

    References:
        Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI, theorem 2.
        Saerens, M., Latinne, P. & Decaestecker, C. (2002). Adjusting the outputs of a classifier to
        new a priori probabilities. Neural Computation 14, 21-41.
    """
    if not (0 < trained < 1 and 0 < stated < 1):
        raise SettingsError(
            f"A prevalence is a share in (0, 1). Received: trained on {trained}, stated {stated}."
        )
    pneumonia = scores * (stated / trained)
    normal = (1 - scores) * ((1 - stated) / (1 - trained))
    return pneumonia / (pneumonia + normal)
