"""Settings compared on images that they were not fitted to, as they are and perturbed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.metrics import (
    count_confusions,
    to_accuracy,
    to_log_losses,
    to_sensitivity,
    to_specificity,
)
from pneumo_keras.evaluation.report_card import HALF

PLAIN, PERTURBED = "", "perturbed_"
"""What the names of metrics begin with, by the images on which they are measured."""

CRITERION = "mean_log_loss"
"""Of each fold: the mean of the log losses on its images as they are and perturbed.

Unperturbed loss measures how well features discriminate; perturbed loss measures whether heads become less
confident under perturbation.
"""

FoldFigures = dict[str, Float64[np.ndarray, " folds"]]


@dataclass(frozen=True)
class Candidate:
    """One combination of settings.

    Attributes:
        values: Values of the settings, by dotted key.
        figures: `mean_log_loss`, then `log_loss`, `auc`, `accuracy`, `sensitivity` and `specificity`
            (at 0.5) of each fold, and of perturbed images as `perturbed_log_loss`, ...; NaN where
            the fit diverged.
        kept_epochs: The epoch that was kept, in each fold.
        operations: Floating-point operations that the frozen network takes to score an image.
        weights: Numbers that a head learns.
    """

    values: dict[str, Any]
    figures: FoldFigures
    kept_epochs: list[int]
    operations: int
    weights: int

    def to_mean(self, name: str) -> float:
        """Mean of a metric over folds."""
        return float(np.mean(self.figures[name]))

    def to_deviation(self, name: str) -> float:
        """Standard deviation of a metric over folds, folds - 1 in the denominator."""
        return float(np.std(self.figures[name], ddof=1))

    def to_loss(self, best: "Candidate", name: str) -> tuple[float, float]:
        """How much higher a metric is than the best one's in the mean, and the standard error of that.

        Paired, fold by fold, since all are fitted and evaluated on the same folds, as if these were
        independent.
        """
        differences = self.figures[name] - best.figures[name]
        error = np.std(differences, ddof=1) / np.sqrt(len(differences))
        return float(np.mean(differences)), float(error)

    def to_row(self) -> dict[str, Any]:
        """For a table: values, then mean and deviation of each metric; None for NaN."""
        figures: dict[str, Any] = {}
        for name in self.figures:
            figures[name] = self.to_mean(name)
            figures[f"{name}_deviation"] = self.to_deviation(name)
        figures = {name: None if np.isnan(value) else value for name, value in figures.items()}
        return {
            **self.values,
            **figures,
            "kept_epoch": float(np.median(self.kept_epochs)),
            "operations": self.operations,
            "weights": self.weights,
        }


def evaluate_folds(
    labels: Labels, scores: Scores, folds: Int64[np.ndarray, " n"], *, prefix: str = PLAIN
) -> FoldFigures:
    """Figures of each fold by itself, predictions at 0.5, names with a prefix.

    Scores are from members that have not seen the fold of the image.
    """
    by_fold = [
        _to_figures(labels[folds == fold], scores[folds == fold]) for fold in range(int(folds.max()) + 1)
    ]
    return {prefix + name: np.array([figures[name] for figures in by_fold]) for name in by_fold[0]}


def _to_figures(labels: Labels, scores: Scores) -> dict[str, float]:
    """The metrics of a fold: all of `to_figures` would take longer than the fits of a sweep."""
    counts = count_confusions(labels, scores, HALF)
    return {
        "log_loss": float(to_log_losses(labels, scores).mean()),
        "auc": float(roc_auc_score(labels, scores)),
        "accuracy": to_accuracy(counts),
        "sensitivity": to_sensitivity(counts),
        "specificity": to_specificity(counts),
    }


def build_candidates(
    values: Sequence[dict[str, Any]],
    labels: Labels,
    log_odds: Mapping[str, Float64[np.ndarray, "n settings"]],
    folds: Int64[np.ndarray, " n"],
    kept_epochs: Int64[np.ndarray, "settings folds"],
    *,
    operations: int,
    weights: int,
) -> list[Candidate]:
    """A candidate for each combination of settings that was cross-validated; see `Candidate`.

    The log odds, of images as they are (`PLAIN`) and `PERTURBED`, are from members that have not seen the
    fold of the image; NaN for a combination that diverged.
    """
    candidates = []
    for index, combination in enumerate(values):
        figures: FoldFigures = {}
        for prefix, of_settings in log_odds.items():
            scores = expit(of_settings[:, index])
            found = evaluate_folds(labels, np.nan_to_num(scores, nan=0.5), folds, prefix=prefix)
            if not np.isfinite(scores).all():
                found = {name: np.full(len(of_folds), np.nan) for name, of_folds in found.items()}
            figures |= found
        mean = (figures[f"{PLAIN}log_loss"] + figures[f"{PERTURBED}log_loss"]) / 2
        candidates.append(
            Candidate(
                combination, {CRITERION: mean, **figures}, kept_epochs[index].tolist(), operations, weights
            )
        )
    return candidates


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By the mean of both log losses, the lowest first; those that diverged last."""
    return sorted(candidates, key=lambda candidate: np.nan_to_num(candidate.to_mean(CRITERION), nan=np.inf))


def list_within_one_error(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The candidates within one standard error of the best one, itself included; see `Candidate.to_loss`."""
    best = ranked[0]
    losses = [candidate.to_loss(best, CRITERION) for candidate in ranked]
    return [one for one, (loss, error) in zip(ranked, losses, strict=True) if one is best or loss <= error]


def choose_cheapest(ranked: Sequence[Candidate]) -> Candidate:
    """The cheapest candidate within one standard error of the best: fewest operations, then weights.

    The better one of those that cost the same.

    References:
        Breiman, L., Friedman, J., Olshen, R. & Stone, C. (1984). Classification and regression
        trees. Wadsworth, section 3.4.3: the one-standard-error rule. The error here is that of the
        difference to the best, which is several times smaller: folds differ more than settings do.
    """
    return min(list_within_one_error(ranked), key=lambda candidate: (candidate.operations, candidate.weights))
