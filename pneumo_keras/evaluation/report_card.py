"""All figures of one classifier on one split, with their intervals: what `metrics_<split>.json` holds."""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import Field

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.bootstrap import RESAMPLES
from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.figure_intervals import to_intervals
from pneumo_keras.evaluation.figures import to_figures
from pneumo_keras.evaluation.intervals import LEVEL, Interval
from pneumo_keras.evaluation.metrics import ConfusionCounts, count_calls, has_both_classes
from pneumo_keras.evaluation.patients import (
    PatientCounts,
    Patients,
    count_patients,
    count_rarer,
    select_patients,
)
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.robustness import Robustness
from pneumo_keras.evaluation.scores import check_scores
from pneumo_keras.evaluation.small_sets import list_short_intervals
from pneumo_keras.evaluation.spread import MemberSpread, to_member_spreads

Distances = Float64[np.ndarray, " n"]
"""From the training images: 1 at the limit that all but a few validation images keep."""

FAR = 1.5
"""Distance above which a prediction is of no use."""
HALF = 0.5  # MedMNIST's threshold, for comparable figures


@dataclass(frozen=True)
class ThresholdMetrics:
    """All figures at one threshold.

    Attributes:
        n: Images.
        threshold: An image is called pneumonia when its score is above it.
        tn: Normal images called normal.
        fp: Normal images called pneumonia.
        fn: Pneumonia images called normal.
        tp: Pneumonia images called pneumonia.
        figures: Each figure with its interval, by name.
        level: Of the intervals.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        stated_prevalence: Share of pneumonia that figures, scores and threshold were corrected for;
            None where they speak of the images as they are.
        trained_prevalence: Share of pneumonia that they were corrected from, if they were.
        short_intervals: Figures whose intervals are known to be too short for so few images.
        patients: Where they are known, and intervals take the images of one together; None where each
            image stands for itself.
    """

    n: int
    threshold: float
    tn: int
    fp: int
    fn: int
    tp: int
    figures: dict[str, Interval]
    level: float
    resamples: int
    seed: int
    stated_prevalence: float | None
    trained_prevalence: float | None
    short_intervals: list[str] = field(default_factory=list)
    patients: PatientCounts | None = None

    @property
    def counts(self) -> ConfusionCounts:
        """ImageSet by label and call."""
        return ConfusionCounts(self.tn, self.fp, self.fn, self.tp)

    @property
    def ranks_backwards(self) -> bool:
        """Whether the AUC is clearly below that of guessing, as with swapped labels."""
        return self.figures["auc"].high < HALF


@dataclass(frozen=True)
class OutOfDistribution:
    """Images outside the range of the training images, and the figures without them.

    Attributes:
        outside: How many lie up to `FAR` times the limit away.
        far_outside: How many lie further away: their predictions are of no use.
        inside: At the operating point, all images but these; None where there are no such images, or no
            others.
    """

    outside: int
    far_outside: int
    inside: ThresholdMetrics | None

    @property
    def n(self) -> int:
        """Images that are warned about."""
        return self.outside + self.far_outside


@dataclass(frozen=True)
class Evaluation:
    """A classifier on one split: at its operating point, at 0.5, and member by member.

    Attributes:
        evaluation: At the operating point.
        at_half: At 0.5, whatever the operating point; where scores are corrected, with the calls of
            plain scores at 0.5.
        members: Each figure of every member alone, at the operating point; empty for one member.
        perturbed: Of the same images perturbed, if that was asked for.
        out_of_distribution: Images that are warned about; None where that was not looked for.
        new_patients: Images of patients of whom the classifier has seen none, at the operating point; None
            where that is unknown, or they are all or none.
    """

    at_threshold: ThresholdMetrics
    at_half: ThresholdMetrics
    members: dict[str, MemberSpread]
    perturbed: "Perturbed | None" = None
    out_of_distribution: OutOfDistribution | None = None
    new_patients: ThresholdMetrics | None = None


@dataclass(frozen=True)
class Perturbed:
    """The same classifier on the same images perturbed.

    Attributes:
        evaluation: Of the perturbed images.
        changes: Each figure at the operating point less that of the images as they are, in pairs.
        ranges: How far images were varied.
        robustness: The same by kind and severity, each kind alone.
    """

    evaluation: Evaluation
    changes: dict[str, Difference]
    ranges: dict[str, Any]
    robustness: Robustness


@dataclass(frozen=True, kw_only=True)
class Metrics(ThresholdMetrics):
    """`metrics_<split>.json`: the evaluation at the operating point, and what belongs to it.

    Attributes:
        at_half: See `Evaluation`.
        members: See `Evaluation`.
        split: `train`, `val` or `test`.
        images_sha256: Fingerprint of the images' pixels.
        labels_sha256: Fingerprint of their labels.
        scores_sha256: Of the file with their scores.
        perturbation: How far images were varied before they were scored; None for images as they are.
        out_of_distribution: See `Evaluation`.
        new_patients: See `Evaluation`.
    """

    at_half: Annotated[ThresholdMetrics, Field(alias="at_0.5")]
    members: dict[str, MemberSpread]
    split: str
    images_sha256: str
    labels_sha256: str
    scores_sha256: str
    perturbation: dict[str, Any] | None
    out_of_distribution: OutOfDistribution | None
    new_patients: ThresholdMetrics | None


@dataclass(frozen=True, kw_only=True)
class PerturbedMetrics(Robustness):
    """`metrics_<split>_perturbed.json`: kind by kind, and all at once.

    Attributes:
        combined: Every image perturbed once as the settings say.
    """

    combined: Metrics


def to_metrics(
    evaluation: Evaluation,
    *,
    split: str,
    images_sha256: str,
    labels_sha256: str,
    scores_sha256: str,
    perturbation: dict[str, Any] | None = None,
) -> Metrics:
    """An evaluation with the images it speaks of."""
    return Metrics(
        **vars(evaluation.at_threshold),
        at_half=evaluation.at_half,
        members=evaluation.members,
        split=split,
        images_sha256=images_sha256,
        labels_sha256=labels_sha256,
        scores_sha256=scores_sha256,
        perturbation=perturbation,
        out_of_distribution=evaluation.out_of_distribution,
        new_patients=evaluation.new_patients,
    )


def to_evaluation(metrics: Metrics) -> Evaluation:
    """The evaluation that metrics were made from, but for that of perturbed images."""
    at_threshold = ThresholdMetrics(
        **{name: getattr(metrics, name) for name in ThresholdMetrics.__dataclass_fields__}
    )
    return Evaluation(
        at_threshold,
        metrics.at_half,
        metrics.members,
        out_of_distribution=metrics.out_of_distribution,
        new_patients=metrics.new_patients,
    )


def evaluate(
    labels: Labels,
    scores: Scores,
    threshold: float,
    *,
    members: Sequence[Scores],
    seed: int,
    shift: PrevalenceShift | None = None,
    distances: Distances | None = None,
    patients: Patients | None = None,
    new: Bool[np.ndarray, " n"] | None = None,
) -> Evaluation:
    """Evaluates scores at the operating point and at 0.5, and every member by itself.

    Args:
        labels: 0 (normal) or 1 (pneumonia).
        scores: Of the members together, as the classifier gives them.
        threshold: The operating point, as it was chosen.
        members: Scores of each member.
        seed: Of the bootstrap.
        shift: See `evaluate`.
        distances: Of the images; None not to look for those that are out of distribution.
        patients: See `evaluate`.
        new: Which images show patients of whom the classifier has seen none; None where that is unknown.

    Raises:
        DataError: See `evaluate`.
    """
    options = {"seed": seed, "shift": shift, "patients": patients}
    at_threshold = evaluate_at(labels, scores, threshold, **options)
    at_half = at_threshold if threshold == HALF else evaluate_at(labels, scores, HALF, **options)
    evaluate_part = functools.partial(evaluate_some, labels, scores, threshold, **options)
    figures = []
    for alone in members if len(members) > 1 else []:
        stated = shift.stated if shift else None
        corrected = shift.correct_scores(alone) if shift else alone
        figures.append(to_figures(labels, corrected, alone > threshold, prevalence=stated))
    outside = None
    if distances is not None:
        far = int((distances > FAR).sum())
        outside = OutOfDistribution(int((distances > 1).sum()) - far, far, evaluate_part(distances <= 1))
    return Evaluation(
        at_threshold,
        at_half,
        to_member_spreads(figures) if figures else {},
        out_of_distribution=outside,
        new_patients=None if new is None else evaluate_part(new),
    )


def evaluate_some(
    labels: Labels,
    scores: Scores,
    threshold: float,
    inside: Bool[np.ndarray, " n"],
    *,
    seed: int,
    shift: PrevalenceShift | None = None,
    patients: Patients | None = None,
) -> ThresholdMetrics | None:
    """The same of some of the images; None where they are all or none, or a prevalence lacks a class.

    Args:
        labels: Of all images.
        scores: As the classifier gives them.
        threshold: The operating point, as it was chosen.
        inside: Which images.
        seed: Of the bootstrap.
        shift: See `evaluate`.
        patients: Of all images, see `evaluate`.
    """
    kept = labels[inside]
    if not 0 < len(kept) < len(labels) or (shift and not has_both_classes(kept)):
        return None
    of_kept = select_patients(patients, inside)
    return evaluate_at(kept, scores[inside], threshold, seed=seed, shift=shift, patients=of_kept)


def evaluate_at(
    labels: Labels,
    scores: Scores,
    threshold: float,
    *,
    resamples: int = RESAMPLES,
    seed: int,
    level: float = LEVEL,
    shift: PrevalenceShift | None = None,
    patients: Patients | None = None,
) -> ThresholdMetrics:
    """Evaluates scores: every figure with its interval.

    Shares of images get Wilson's interval, what is made of two of them MOVER's, the AUC DeLong's, losses
    Hall's, average precision and calibration error the stratified bootstrap's. The intervals speak of
    other images of the same kind, not of other hospitals or training runs.

    Args:
        labels: 0 (normal) or 1 (pneumonia).
        scores: Probabilities of pneumonia, as the classifier gives them.
        threshold: Chosen on other images than these.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        level: Of the intervals, in (0, 1).
        shift: To a stated share of pneumonia: scores and threshold are corrected together, calls
            stay, and the images are weighted to stand for a population with that share.
        patients: Of the images, where known: intervals then take the images of one together.

    Raises:
        DataError: There are no images, labels or scores are out of range, or a prevalence is stated
            for images of one class.
    """
    check_scores(labels, scores)
    calls, prevalence = scores > threshold, shift.stated if shift else None
    if shift:
        scores, threshold = shift.correct_scores(scores), shift.correct_threshold(threshold)
    values = to_figures(labels, scores, calls, prevalence=prevalence)
    counts = count_calls(labels, calls)
    figures = to_intervals(
        values,
        labels,
        scores,
        calls,
        prevalence=prevalence,
        resamples=resamples,
        seed=seed,
        level=level,
        patients=patients,
    )
    return ThresholdMetrics(
        counts.n,
        threshold,
        **asdict(counts),
        figures=figures,
        level=level,
        resamples=resamples,
        seed=seed,
        stated_prevalence=prevalence,
        trained_prevalence=shift.trained if shift else None,
        short_intervals=list_short_intervals(count_rarer(labels, patients), figures),
        patients=None if patients is None else count_patients(labels, patients),
    )
