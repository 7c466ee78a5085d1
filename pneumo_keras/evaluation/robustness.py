"""Robustness: metrics under perturbation of the images, by its kind and severity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.metrics import to_figures
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.storage.documents import FloatOrNan

ALEXNET_CLEAN = 0.10085470085470083
ALEXNET: Mapping[str, float] = {
    "pixelate": 0.22102564102564104,
    "jpeg_compression": 0.2798290598290598,
    "gaussian_noise": 0.4414529914529915,
    "speckle_noise": 0.3457264957264957,
    "impulse_noise": 0.4581196581196581,
    "shot_noise": 0.4106837606837607,
    "gaussian_blur": 0.2730769230769231,
    "brightness_up": 0.14649572649572645,
    "brightness_down": 0.2782051282051282,
    "contrast_up": 0.09529914529914527,
    "contrast_down": 0.23743589743589744,
    "gamma_corr_up": 0.09606837606837607,
    "gamma_corr_down": 0.16641025641025642,
}
"""Balanced error of AlexNet at 224 px on the test images, mean over five severities.

References:
    Di Salvo, F., Doerrich, S. & Ledig, C. (2024). MedMNIST-C. arXiv:2406.17536; the table of its package
    medmnistc 0.1.0, utils/baselines.py.
"""


@dataclass(frozen=True)
class ScoredImages:
    """The images of a split in one state.

    The log odds are the heads' mean, before calibration; a distance above 1 is out of distribution.
    """

    log_odds: Float64[np.ndarray, " n"]
    scores: Scores
    distances: Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class PerturbedFigures:
    """Metrics at the operating point, and what has changed against the images as they are.

    Attributes:
        balanced_error: 1 minus the mean of sensitivity and specificity.
        mean_shift: Mean change of the heads' log odds, before calibration.
        changed: Share of images with another prediction.
        out_of_distribution: Share of images that are warned about.
    """

    auc: FloatOrNan
    accuracy: FloatOrNan
    sensitivity: FloatOrNan
    specificity: FloatOrNan
    balanced_error: FloatOrNan
    mean_shift: FloatOrNan
    changed: FloatOrNan
    out_of_distribution: FloatOrNan


@dataclass(frozen=True)
class PerturbationKind:
    """A kind of perturbation: parameters and metrics of severities 1 to 5, and each metric's mean over them.

    The relative error is the mean balanced error over AlexNet's; None for a kind that is not of MedMNIST-C.
    """

    parameters: list[float]
    severities: list[PerturbedFigures]
    mean: PerturbedFigures
    relative_error: FloatOrNan | None


@dataclass(frozen=True)
class MedmnistC:
    """The metrics of MedMNIST-C: balanced errors relative to AlexNet's, and those of AlexNet by kind."""

    mean_relative_error: FloatOrNan
    clean_relative_error: FloatOrNan
    alexnet: dict[str, float]
    source: str = "MedMNIST-C (arXiv:2406.17536), medmnistc 0.1.0"


@dataclass(frozen=True)
class Robustness:
    """A classifier under perturbation of each kind, by name; the seed is that of what is drawn."""

    seed: int
    unperturbed: PerturbedFigures
    kinds: dict[str, PerturbationKind]
    medmnist_c: MedmnistC


def to_perturbed_figures(
    labels: Labels,
    perturbed: ScoredImages,
    plain: ScoredImages,
    *,
    threshold: float,
    shift: PrevalenceShift | None = None,
) -> PerturbedFigures:
    """Metrics of perturbed images, against the same images as they are (`plain`).

    The threshold is the operating point as it was chosen; with a `shift`, the accuracy is that at the stated
    prevalence.
    """
    predicted = perturbed.scores > threshold
    scores = shift.correct_scores(perturbed.scores) if shift else perturbed.scores
    figures = to_figures(labels, scores, predicted, prevalence=shift.stated if shift else None)
    return PerturbedFigures(
        **{name: figures[name] for name in ("auc", "accuracy", "sensitivity", "specificity")},
        balanced_error=1 - figures["balanced_accuracy"],
        mean_shift=float((perturbed.log_odds - plain.log_odds).mean()),
        changed=float((predicted != (plain.scores > threshold)).mean()),
        out_of_distribution=float((perturbed.distances > 1).mean()),
    )


def to_kind(
    name: str, parameters: Sequence[float], severities: Sequence[PerturbedFigures]
) -> PerturbationKind:
    """Means over the severities of a kind, and its error relative to AlexNet's."""
    mean = PerturbedFigures(
        **{field: float(np.mean([vars(one)[field] for one in severities])) for field in vars(severities[0])}
    )
    relative = mean.balanced_error / ALEXNET[name] if name in ALEXNET else None
    return PerturbationKind(list(parameters), list(severities), mean, relative)


def to_robustness(
    unperturbed: PerturbedFigures, kinds: Mapping[str, PerturbationKind], *, seed: int
) -> Robustness:
    """All kinds together."""
    relative = [kind.relative_error for kind in kinds.values() if kind.relative_error is not None]
    clean = unperturbed.balanced_error / ALEXNET_CLEAN
    alexnet = {"clean": ALEXNET_CLEAN, **ALEXNET}
    return Robustness(seed, unperturbed, dict(kinds), MedmnistC(float(np.mean(relative)), clean, alexnet))
