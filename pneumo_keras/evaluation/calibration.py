"""Scores that mean what they say: log odds scaled on validation images.

Scaling keeps the order of the images, and with it the AUC: a slope that would turn it round is refused.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field
from scipy.special import expit

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError
from pneumo_keras.evaluation.metrics import check_both_classes, to_prevalence
from pneumo_keras.evaluation.prevalence import BALANCED_PREVALENCE
from pneumo_keras.evaluation.reliability import BINS, to_calibration_error
from pneumo_keras.storage.documents import FloatOrNan

Logits = Float64[np.ndarray, " n"]

TEMPERATURES = (0.01, 100.0)

Method = Literal["none", "temperature", "platt"]


@dataclass(frozen=True)
class LogitScaling:
    """Calibrated score = sigmoid(slope * logit + intercept).

    Attributes:
        slope: 1 / temperature: below 1 the scores were too sure of themselves.
        intercept: 0 for temperature scaling.
        method: `none`, `temperature` or `platt`.
    """

    slope: float
    intercept: float
    method: Method

    def __post_init__(self) -> None:
        """Checks that the numbers are of the method."""
        if (self.method == "none" and self.slope != 1) or (self.method != "platt" and self.intercept):
            raise ValueError(f"'slope' and 'intercept' must be those of the method '{self.method}'")
        if not self.slope > 0:
            raise ValueError("'slope' must be positive")

    def to_scores(self, logits: Logits) -> Scores:
        """Calibrated probabilities of pneumonia."""
        return expit(self.slope * logits + self.intercept)


UNSCALED = LogitScaling(slope=1.0, intercept=0.0, method="none")


@dataclass(frozen=True)
class ErrorChange:
    """Calibration error of the same images, plain and scaled."""

    before: FloatOrNan
    after: FloatOrNan


@dataclass(frozen=True)
class Calibration(LogitScaling):
    """What scores mean: `calibration.json`.

    Attributes:
        fitted_on: The images, for instance `val`.
        prevalence: Share of pneumonia that the scores speak of.
        calibration_error: Of the same images.
        bins: Of the calibration error.
    """

    fitted_on: str
    prevalence: Annotated[float, Field(gt=0, lt=1)]
    calibration_error: ErrorChange
    bins: Annotated[int, Field(ge=1, le=1000)]


def describe_calibration(
    scaling: LogitScaling, labels: Labels, logits: Logits, *, fitted_on: str
) -> Calibration:
    """What a scaling does to the images it was fitted on, under heads fitted with balanced class weights."""
    errors = [to_calibration_error(labels, one.to_scores(logits)) for one in (UNSCALED, scaling)]
    return Calibration(
        **asdict(scaling),
        fitted_on=fitted_on,
        # An intercept moves the scores to the share of the images it was fitted on.
        prevalence=to_prevalence(labels) if scaling.method == "platt" else BALANCED_PREVALENCE,
        calibration_error=ErrorChange(*errors),
        bins=BINS,
    )


def fit_scaling(method: Method, labels: Labels, logits: Logits) -> LogitScaling:
    """Fits a scaling by the log loss against Platt's targets; `none` leaves logits alone.

    Args:
        method: `none`, `temperature` (a slope; the temperature stays in [0.01, 100]) or `platt` (a
            slope and an intercept).
        labels: Of images that are not evaluated later.
        logits: Of the same images.

    Raises:
        DataError: A class is missing, or scores do not rise from normal to pneumonia.

    References:
        Guo, C., Pleiss, G., Sun, Y. & Weinberger, K. Q. (2017). On calibration of modern neural
        networks. ICML. There the targets are 1 and 0. Platt (1999), see `to_platt_targets`.
    """
    if method == "none":
        return UNSCALED
    check_both_classes(labels, "Calibration")
    slope, intercept = fit_logistic(labels, logits, intercept=method == "platt")
    if slope <= 0:
        raise DataError(
            f"evaluation.calibration = '{method}' must find scores that rise from normal to pneumonia. "
            f"Received: a slope of {slope:.3g}, for scores that rank the images backwards or not at all. "
            "Check whether labels are swapped (data.positive names the class that is pneumonia), or set "
            "evaluation.calibration to 'none'."
        )
    if method == "temperature":
        # The loss is convex in the slope: inside the bounds its minimum lies at the nearest of them.
        return LogitScaling(min(max(slope, 1 / TEMPERATURES[1]), 1 / TEMPERATURES[0]), 0.0, "temperature")
    return LogitScaling(slope, intercept, "platt")


def fit_logistic(labels: Labels, logits: Logits, *, intercept: bool) -> tuple[float, float]:
    """Slope and intercept of the least log loss against Platt's targets; the intercept 0 unless asked for."""
    # Takes seconds to import; an evaluation does without.
    from sklearn.linear_model import LogisticRegression

    centre = float(logits.mean()) if intercept else 0.0
    # In standard units the two parameters are about equally large and nearly independent.
    spread = float(np.sqrt(np.mean((logits - centre) ** 2))) or 1.0
    standard, targets = (logits - centre) / spread, to_platt_targets(labels)
    # A soft target is the image once as pneumonia and once as normal, with these weights.
    model = LogisticRegression(C=np.inf, fit_intercept=intercept, tol=1e-10, max_iter=1000)
    model.fit(
        np.tile(standard, 2)[:, None],
        np.repeat([1, 0], len(labels)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    slope = float(model.coef_.item()) / spread
    return slope, float(np.ravel(model.intercept_)[0]) - slope * centre


def to_platt_targets(labels: Labels) -> Float64[np.ndarray, " n"]:
    """(n1 + 1) / (n1 + 2) for the n1 pneumonia images, 1 / (n0 + 2) for the n0 normal ones.

    Against 1 and 0 images without overlap ask for an infinite slope; against these they do not.

    References:
        Platt, J. (1999). Probabilistic outputs for support vector machines and comparisons to
        regularized likelihood methods. Advances in Large Margin Classifiers, 61-74.
    """
    pneumonia = int(labels.sum())
    normal = len(labels) - pneumonia
    return np.where(labels == 1, (pneumonia + 1) / (pneumonia + 2), 1 / (normal + 2))
