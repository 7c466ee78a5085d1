"""Do scores mean what they say: of the images scored about 0.8, are 80 % pneumonia?"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.intervals import LEVEL, to_share_interval
from pneumo_keras.evaluation.metrics import to_prevalence
from pneumo_keras.evaluation.patients import Patients
from pneumo_keras.evaluation.prevalence import PrevalenceShift, weigh_images
from pneumo_keras.evaluation.scores import check_scores

BINS = 15
Binning = Literal["width", "mass"]


@dataclass(frozen=True)
class ReliabilityBin:
    """The images of one bin of scores, low < score <= high (the first bin holds `low` too).

    Attributes:
        low: Lower edge.
        high: Upper edge.
        n: Images.
        mean_score: Mean score, what the classifier promises.
        share: Share of pneumonia images, what comes true.
        share_low: Lower bound of Wilson's interval of the share.
        share_high: Upper bound of it.
    """

    low: float
    high: float
    n: int
    mean_score: float
    share: float
    share_low: float
    share_high: float


def to_bin_edges(
    scores: Scores, *, bins: int = BINS, binning: Binning = "width"
) -> Float64[np.ndarray, " edges"]:
    """Edges from 0 to 1 of bins of equal width, or of about equally many images.

    Equal scores share a bin, so "mass" may return fewer bins.
    """
    if binning == "width":
        return np.linspace(0.0, 1.0, bins + 1)
    inner = np.unique(np.quantile(scores, np.arange(1, bins) / bins, method="inverted_cdf"))
    return np.concatenate([[0.0], inner[(inner > 0) & (inner < 1)], [1.0]])


def to_bin_index(scores: Scores, edges: Float64[np.ndarray, " edges"]) -> Int64[np.ndarray, " n"]:
    """The bin of each score, counted from 0; a score on an edge belongs to the bin below it."""
    return np.digitize(scores, edges[1:-1], right=True)


def to_bin_members(scores: Scores) -> Float64[np.ndarray, "n bins"]:
    """1 where an image lies in a bin of the default width, 0 elsewhere."""
    index = to_bin_index(scores, to_bin_edges(scores))
    return (index[:, None] == np.arange(BINS)).astype(np.float64)


def to_calibration_error(
    labels: Labels,
    scores: Scores,
    *,
    bins: int = BINS,
    binning: Binning = "width",
    prevalence: float | None = None,
) -> float:
    """Expected calibration error: mean over images of their bin's |mean score - share of pneumonia|.

    In [0, 1], smaller is better. It depends on the bins, and chance alone makes it positive: with
    few images a perfectly calibrated score does not reach 0. With a `prevalence`, images are weighted so
    that they stand for a population with that share of pneumonia.

    References:
        Naeini, M. P., Cooper, G. F. & Hauskrecht, M. (2015). Obtaining well calibrated probabilities
        using Bayesian binning. AAAI. For the binary probability, not for the top class's confidence.
    """
    edges = to_bin_edges(scores, bins=bins, binning=binning)
    weights = weigh_images(labels, prevalence)
    gaps = np.bincount(to_bin_index(scores, edges), weights=weights * (scores - labels))
    return float(np.abs(gaps).sum() / len(labels))


def to_reliability_bins(
    labels: Labels,
    scores: Scores,
    *,
    bins: int = BINS,
    binning: Binning = "width",
    level: float = LEVEL,
    prevalence: float | None = None,
    patients: Patients | None = None,
) -> list[ReliabilityBin]:
    """The table behind a reliability diagram; bins without images are left out.

    With a `prevalence`, shares and their bounds are carried from the images' share of pneumonia to the
    stated one as scores are: what holds inside a bin is moved by the same odds.

    Raises:
        DataError: There are no images, or labels or scores are out of range.
    """
    check_scores(labels, scores)
    edges = to_bin_edges(scores, bins=bins, binning=binning)
    index = to_bin_index(scores, edges)
    weights = weigh_images(labels, prevalence)
    table = []
    for bin_ in np.unique(index):
        inside = index == bin_
        found = to_share_interval(labels == 1, inside, patients, level=level)
        shares = np.array([found.value, found.low, found.high])
        if prevalence is not None:
            shares = PrevalenceShift(to_prevalence(labels), prevalence).correct_scores(shares)
        table.append(
            ReliabilityBin(
                float(edges[bin_]),
                float(edges[bin_ + 1]),
                int(inside.sum()),
                float(np.average(scores[inside], weights=weights[inside])),
                *shares.tolist(),
            )
        )
    return table
