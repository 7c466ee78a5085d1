"""All figures of one classifier on one split, with their intervals: what `metrics_<split>.json` holds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.bootstrap import (
    RESAMPLES,
    draw_chance_errors,
    draw_figures,
    to_bootstrap_interval,
    to_calibration_interval,
)
from pneumo_keras.evaluation.figures import to_figures
from pneumo_keras.evaluation.intervals import LEVEL, Interval, to_auc_interval, to_wilson_interval
from pneumo_keras.evaluation.metrics import ConfusionCounts, count_confusions
from pneumo_keras.evaluation.spread import Spread, to_spreads

HALF = 0.5  # MedMNIST's threshold, for comparable figures


@dataclass(frozen=True)
class Evaluation:
    """All figures at one threshold.

    Attributes:
        n: Films.
        threshold: A film is called pneumonia when its score is above it.
        counts: Films by label and call.
        figures: Each figure with its interval, by name.
        level: Of the intervals.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    n: int
    threshold: float
    counts: ConfusionCounts
    figures: dict[str, Interval]
    level: float
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, object]:
        """For JSON: n, threshold, tn, fp, fn, tp, then the figures; None for NaN."""
        return {
            "n": self.n,
            "threshold": self.threshold,
            **asdict(self.counts),
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "level": self.level,
            "resamples": self.resamples,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Judgement:
    """A classifier on one split: at its operating point, at 0.5, and member by member.

    Attributes:
        evaluation: At the operating point.
        at_half: At 0.5, whatever the operating point.
        members: Each figure of every member alone, at the operating point; empty for one member.
    """

    evaluation: Evaluation
    at_half: Evaluation
    members: dict[str, Spread]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            **self.evaluation.to_dict(),
            "at_0.5": self.at_half.to_dict(),
            "members": {name: spread.to_dict() for name, spread in self.members.items()},
        }


def judge(
    labels: Labels, scores: Scores, threshold: float, *, members: Sequence[Scores], seed: int
) -> Judgement:
    """Evaluates scores at the operating point and at 0.5, and every member by itself.

    Args:
        labels: 0 (normal) or 1 (pneumonia).
        scores: Of the members together.
        threshold: The operating point.
        members: Scores of each member.
        seed: Of the bootstrap.

    Raises:
        DataError: See `evaluate`.
    """
    evaluation = evaluate(labels, scores, threshold, seed=seed)
    at_half = evaluation if threshold == HALF else evaluate(labels, scores, HALF, seed=seed)
    figures = [to_figures(labels, alone, threshold) for alone in members]
    return Judgement(evaluation, at_half, to_spreads(figures) if len(figures) > 1 else {})


def evaluate(
    labels: Labels,
    scores: Scores,
    threshold: float,
    *,
    resamples: int = RESAMPLES,
    seed: int,
    level: float = LEVEL,
) -> Evaluation:
    """Evaluates scores: every figure with its interval.

    Proportions get Wilson's interval, the AUC DeLong's, the rest the stratified bootstrap's. The
    intervals speak of other films of the same kind, not of other hospitals or training runs.

    Args:
        labels: 0 (normal) or 1 (pneumonia).
        scores: Probabilities of pneumonia.
        threshold: Chosen on other films than these.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        level: Of the intervals, in (0, 1).

    Raises:
        DataError: There are no films, or labels or scores are out of range.
    """
    values = to_figures(labels, scores, threshold)
    counts = count_confusions(labels, scores, threshold)
    (draws,) = draw_figures(labels, [(scores, threshold)], resamples=resamples, seed=seed)
    chance = draw_chance_errors(scores, resamples=resamples, seed=seed)
    figures = {
        **{name: to_bootstrap_interval(value, draws[name], level=level) for name, value in values.items()},
        **to_proportion_intervals(counts, level=level),
        "auc": to_auc_interval(labels, scores, level=level),
        "calibration_error": to_calibration_interval(
            values["calibration_error"], draws["calibration_error"], chance, level=level
        ),
    }
    return Evaluation(counts.n, threshold, counts, figures, level, resamples, seed)


def to_proportion_intervals(counts: ConfusionCounts, *, level: float = LEVEL) -> dict[str, Interval]:
    """Wilson's intervals of the figures that are shares of films."""
    tn, fp, fn, tp = counts.tn, counts.fp, counts.fn, counts.tp
    shares = {
        "accuracy": (tn + tp, counts.n),
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "precision_pneumonia": (tp, tp + fp),
        "precision_normal": (tn, tn + fn),
        "prevalence": (tp + fn, counts.n),
    }
    return {name: to_wilson_interval(part, whole, level=level) for name, (part, whole) in shares.items()}
