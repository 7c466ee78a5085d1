"""Settings compared by what they say of films that they have not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.figures import to_figures
from pneumo_keras.evaluation.report_card import HALF

FIGURES = ("auc", "log_loss", "accuracy", "sensitivity", "specificity")

FoldFigures = dict[str, Float64[np.ndarray, " folds"]]


@dataclass(frozen=True)
class Candidate:
    """One combination of settings.

    Attributes:
        values: By dotted key.
        figures: `auc`, `log_loss`, `accuracy`, `sensitivity` and `specificity` (at 0.5) of each
            fold; NaN where the fit diverged.
        best_epochs: The epoch that was kept, in each fold.
        weights: Numbers that a head learns.
    """

    values: dict[str, Any]
    figures: FoldFigures
    best_epochs: list[int]
    weights: int

    def to_mean(self, name: str) -> float:
        """Of a figure, over folds."""
        return float(np.mean(self.figures[name]))

    def to_deviation(self, name: str) -> float:
        """Standard deviation of a figure over folds, folds - 1 in the denominator."""
        return float(np.std(self.figures[name], ddof=1))

    def to_error(self, name: str) -> float:
        """Standard error of the mean of a figure, as if folds were independent."""
        return self.to_deviation(name) / float(np.sqrt(len(self.figures[name])))

    def to_row(self) -> dict[str, Any]:
        """For a table: values, then mean and deviation of each figure; None for NaN."""
        figures: dict[str, Any] = {}
        for name in self.figures:
            figures[name] = self.to_mean(name)
            figures[f"{name}_deviation"] = self.to_deviation(name)
        figures = {name: None if np.isnan(value) else value for name, value in figures.items()}
        best_epoch = float(np.median(self.best_epochs))
        return {**self.values, **figures, "best_epoch": best_epoch, "weights": self.weights}


def judge_folds(labels: Labels, scores: Scores, folds: Int64[np.ndarray, " n"]) -> FoldFigures:
    """Figures of each fold by itself; calls at 0.5.

    Args:
        labels: Of all films.
        scores: From members that have not seen the fold of the film.
        folds: In which each film was held out.
    """
    by_fold = [
        to_figures(labels[inside], scores[inside], scores[inside] > HALF)
        for inside in (folds == fold for fold in range(int(folds.max()) + 1))
    ]
    return {name: np.array([figures[name] for figures in by_fold]) for name in FIGURES}


def build_candidates(
    values: Sequence[dict[str, Any]],
    labels: Labels,
    log_odds: Float64[np.ndarray, "n settings"],
    folds: Int64[np.ndarray, " n"],
    best_epochs: Int64[np.ndarray, "settings folds"],
    weights: int,
) -> list[Candidate]:
    """A candidate for each combination of settings that was cross-validated.

    Args:
        values: Of each combination, by dotted key.
        labels: Of all films.
        log_odds: From members that have not seen the fold of the film; NaN for a combination that
            diverged.
        folds: In which each film was held out.
        best_epochs: That were kept.
        weights: Numbers that a head learns.
    """
    candidates = []
    for index, combination in enumerate(values):
        scores = expit(log_odds[:, index])
        figures = judge_folds(labels, np.nan_to_num(scores, nan=0.5), folds)
        if not np.isfinite(scores).all():
            figures = {name: np.full(len(of_folds), np.nan) for name, of_folds in figures.items()}
        candidates.append(Candidate(combination, figures, best_epochs[index].tolist(), weights))
    return candidates


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By mean log loss, the lowest first; those that diverged last.

    The log loss is what training watches on validation films, and it still tells settings apart
    where nearly every AUC is above 0.99.
    """
    return sorted(candidates, key=lambda candidate: np.nan_to_num(candidate.to_mean("log_loss"), nan=np.inf))


def list_equals(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The candidates within one standard error of the best one's log loss, itself included."""
    best = ranked[0]
    limit = best.to_mean("log_loss") + best.to_error("log_loss")
    return [candidate for candidate in ranked if candidate is best or candidate.to_mean("log_loss") <= limit]


def choose_simplest(ranked: Sequence[Candidate]) -> Candidate:
    """The candidate with the fewest weights within one standard error of the best, or the best of those.

    References:
        Breiman, L., Friedman, J., Olshen, R. & Stone, C. (1984). Classification and regression
        trees. Wadsworth, section 3.4.3: the one-standard-error rule.
    """
    return min(list_equals(ranked), key=lambda candidate: candidate.weights)
