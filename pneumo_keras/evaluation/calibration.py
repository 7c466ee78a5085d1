"""Calibration of scores: of the images scored about 0.8, 80 % are pneumonia.

Log odds are scaled on validation images, which keeps the order of the images, and with it the AUC: a slope
that would reverse it is refused. The reliability diagram shows bin by bin how well scores are calibrated.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError
from pneumo_keras.evaluation.intervals import to_share_interval
from pneumo_keras.evaluation.metrics import (
    BINS,
    check_both_classes,
    check_scores,
    to_bin_index,
    to_calibration_error,
    to_prevalence,
    weigh_images,
)
from pneumo_keras.evaluation.patients import Patients
from pneumo_keras.evaluation.prevalence import BALANCED_PREVALENCE, PrevalenceShift
from pneumo_keras.storage.documents import FloatOrNan

Logits = Float64[np.ndarray, " n"]

TEMPERATURES = (0.01, 100.0)

Method = Literal["none", "temperature", "platt"]


@dataclass(frozen=True)
class LogitScaling:
    """Calibrated score = sigmoid(slope * logit + intercept).

    The slope is 1 / temperature: below 1 the scores were too confident. The intercept is that of `platt`.
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
        return np.exp(-np.logaddexp(0, -(self.slope * logits + self.intercept)))  # without SciPy


UNSCALED = LogitScaling(slope=1.0, intercept=0.0, method="none")


@dataclass(frozen=True)
class Calibration(LogitScaling):
    """What scores mean: `calibration.json`.

    Attributes:
        fitted_on: The images, for instance `val`.
        prevalence: The prevalence for which the scores are probabilities.
        error_before: Calibration error of the same images unscaled.
        error_after: Calibration error of the same images scaled.
    """

    fitted_on: str
    prevalence: Annotated[float, Field(gt=0, lt=1)]
    error_before: FloatOrNan
    error_after: FloatOrNan


def describe_calibration(
    scaling: LogitScaling, labels: Labels, logits: Logits, *, fitted_on: str
) -> Calibration:
    """What a scaling does to the images it was fitted on, under heads fitted with balanced class weights."""
    before, after = (to_calibration_error(labels, one.to_scores(logits)) for one in (UNSCALED, scaling))
    return Calibration(
        **asdict(scaling),
        fitted_on=fitted_on,
        # An intercept moves the scores to the prevalence of the images it was fitted on.
        prevalence=to_prevalence(labels) if scaling.method == "platt" else BALANCED_PREVALENCE,
        error_before=before,
        error_after=after,
    )


def fit_scaling(method: Method, labels: Labels, logits: Logits) -> LogitScaling:
    """Fits a scaling by the log loss against Platt's targets, on images that are not evaluated later.

    `none` leaves logits alone, `temperature` is a slope (the temperature stays in [0.01, 100]), `platt` a
    slope and an intercept.

    Raises:
        DataError: A class is missing, or scores do not rise from normal to pneumonia.

    References:
        Guo, C., Pleiss, G., Sun, Y. & Weinberger, K. Q. (2017). On calibration of modern neural
        networks. ICML. There the targets are 1 and 0. Platt (1999), see `to_platt_targets`.
    """
    if method == "none":
        return UNSCALED
    check_both_classes(labels, "Calibration")
    slope, intercept = _fit_logistic(labels, logits, intercept=method == "platt")
    if slope <= 0:
        raise DataError(
            f"evaluation.calibration = '{method}' must find scores that rise from normal to pneumonia. "
            f"Received: a slope of {slope:.3g}, for scores that rank the images backwards or not at all. "
            "Check whether labels are swapped (data.positive names the class that is pneumonia), or set "
            "evaluation.calibration to 'none'."
        )
    if method == "temperature":
        # The loss is convex in the slope: inside the bounds its minimum is at the nearest of them.
        return LogitScaling(min(max(slope, 1 / TEMPERATURES[1]), 1 / TEMPERATURES[0]), 0.0, "temperature")
    return LogitScaling(slope, intercept, "platt")


def _fit_logistic(labels: Labels, logits: Logits, *, intercept: bool) -> tuple[float, float]:
    """Slope and intercept of the least log loss against Platt's targets; the intercept 0 unless asked for."""
    # Takes seconds to import; an evaluation does without.
    from sklearn.linear_model import LogisticRegression

    centre = float(logits.mean()) if intercept else 0.0
    # In standard units the two parameters are about equally large and nearly independent.
    scale = float(np.sqrt(np.mean((logits - centre) ** 2))) or 1.0
    standard, targets = (logits - centre) / scale, to_platt_targets(labels)
    # A soft target is the image once as pneumonia and once as normal, with these weights.
    model = LogisticRegression(C=np.inf, fit_intercept=intercept, tol=1e-10, max_iter=1000)
    model.fit(
        np.tile(standard, 2)[:, None],
        np.repeat([1, 0], len(labels)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    slope = float(model.coef_.item()) / scale
    return slope, float(np.ravel(model.intercept_)[0]) - slope * centre


def to_platt_targets(labels: Labels) -> Float64[np.ndarray, " n"]:
    """(n1 + 1) / (n1 + 2) for the n1 pneumonia images, 1 / (n0 + 2) for the n0 normal ones.

    Against 1 and 0 the slope would be infinite for images without overlap; against these it is finite.

    References:
        Platt, J. (1999). Probabilistic outputs for support vector machines and comparisons to
        regularized likelihood methods. Advances in Large Margin Classifiers, 61-74.
    """
    pneumonia = int(labels.sum())
    normal = len(labels) - pneumonia
    return np.where(labels == 1, (pneumonia + 1) / (pneumonia + 2), 1 / (normal + 2))


@dataclass(frozen=True)
class ReliabilityBin:
    """The images of one bin of scores, low < score <= high (the first bin has scores of `low`, too).

    Attributes:
        mean_score: Mean predicted probability.
        prevalence: Observed prevalence, with Wilson's interval.
    """

    low: float
    high: float
    n: int
    mean_score: float
    prevalence: float
    prevalence_low: float
    prevalence_high: float


def to_reliability_bins(
    labels: Labels, scores: Scores, *, prevalence: float | None = None, patients: Patients | None = None
) -> list[ReliabilityBin]:
    """The table behind a reliability diagram; bins without images are left out.

    With a `prevalence`, shares and their bounds are carried from the images' prevalence to the stated one as
    scores are: the prevalence inside a bin is moved by the same odds.

    Raises:
        DataError: There are no images, or labels or scores are out of range.
    """
    check_scores(labels, scores)
    index, weights, table = to_bin_index(scores), weigh_images(labels, prevalence), []
    for bin_ in np.unique(index).tolist():
        inside = index == bin_
        found = to_share_interval(labels == 1, inside, patients)
        shares = np.array([found.value, found.low, found.high])
        if prevalence is not None:
            shares = PrevalenceShift(to_prevalence(labels), prevalence).correct_scores(shares)
        mean_score = float(np.average(scores[inside], weights=weights[inside]))
        table.append(
            ReliabilityBin(bin_ / BINS, (bin_ + 1) / BINS, int(inside.sum()), mean_score, *shares.tolist())
        )
    return table
