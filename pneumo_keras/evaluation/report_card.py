"""All figures of one classifier on one split, with their intervals: what `metrics_<split>.json` holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import Field

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import RESAMPLES, Interval, list_short_intervals, to_intervals
from pneumo_keras.evaluation.metrics import (
    ConfusionCounts,
    check_scores,
    count_predictions,
    has_both_classes,
    to_figures,
)
from pneumo_keras.evaluation.patients import (
    PatientCounts,
    Patients,
    count_patients,
    count_rarer,
    select_patients,
)
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.robustness import Robustness
from pneumo_keras.storage.documents import FloatOrNan

Distances = Float64[np.ndarray, " n"]
"""From the training images: 1 at the limit that all but a few validation images keep."""

FAR = 1.5
"""Distance above which a prediction is of no use."""
HALF = 0.5  # MedMNIST's threshold, for comparable figures


@dataclass(frozen=True)
class MemberFigure:
    """One figure of every member.

    Attributes:
        mean: Of one member; the average of all members has a figure of its own.
        deviation: Standard deviation over members, n - 1 in the denominator; NaN for one member.
        values: In the order of the members.
    """

    mean: FloatOrNan
    deviation: FloatOrNan
    values: tuple[FloatOrNan, ...]


def to_member_figures(members: Sequence[Mapping[str, float]]) -> dict[str, MemberFigure]:
    """Each figure of all members by its name, from all figures of each member."""
    found = {}
    for name in members[0] if members else ():
        values = tuple(figures[name] for figures in members)
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        found[name] = MemberFigure(float(np.mean(values)), deviation, values)
    return found


@dataclass(frozen=True)
class ThresholdMetrics:
    """All figures at one threshold.

    Attributes:
        n: Images.
        threshold: An image is predicted to show pneumonia when its score is above it.
        tn: Normal images predicted normal.
        fp: Normal images predicted pneumonia.
        fn: Pneumonia images predicted normal.
        tp: Pneumonia images predicted pneumonia.
        figures: Each figure with its 95 % interval, by name.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        stated_prevalence: That figures, scores and threshold were corrected for; None where they speak of
            the images as they are.
        trained_prevalence: That they were corrected from, if they were.
        short_intervals: Figures whose intervals are known to be too short for so few images.
        patients: Where they are known, and intervals take the images of one together; None where each
            image is independent.
    """

    n: int
    threshold: float
    tn: int
    fp: int
    fn: int
    tp: int
    figures: dict[str, Interval]
    resamples: int
    seed: int
    stated_prevalence: float | None
    trained_prevalence: float | None
    short_intervals: list[str] = field(default_factory=list)
    patients: PatientCounts | None = None

    @property
    def counts(self) -> ConfusionCounts:
        """Images by label and prediction."""
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
        at_threshold: At the operating point.
        at_half: At 0.5, whatever the operating point; where scores are corrected, with the predictions of
            plain scores at 0.5.
        members: Each figure of every member alone, at the operating point; empty for one member.
        perturbed: Of the same images perturbed, if that was asked for.
        out_of_distribution: Images that are warned about; None where that was not looked for.
        new_patients: Images of patients of whom the classifier has seen none, at the operating point; None
            where that is unknown, or they are all or none.
    """

    at_threshold: ThresholdMetrics
    at_half: ThresholdMetrics
    members: dict[str, MemberFigure]
    perturbed: "Perturbed | None" = None
    out_of_distribution: OutOfDistribution | None = None
    new_patients: ThresholdMetrics | None = None


@dataclass(frozen=True)
class Perturbed:
    """The same classifier on the same images perturbed.

    Attributes:
        evaluation: Of the perturbed images.
        changes: Each figure at the operating point less that of the images as they are, in pairs.
        ranges: How far images were perturbed.
        robustness: The same by kind and severity, each kind alone.
    """

    evaluation: Evaluation
    changes: dict[str, Difference]
    ranges: dict[str, Any]
    robustness: Robustness


@dataclass(frozen=True, kw_only=True)
class Metrics(ThresholdMetrics):
    """`metrics_<split>.json`: the evaluation at the operating point, and what belongs to it.

    Attributes not explained here are those of `Evaluation`.

    Attributes:
        split: `train`, `val` or `test`.
        images_sha256: Fingerprint of the images' pixels.
        labels_sha256: Fingerprint of their labels.
        scores_sha256: Of the file with their scores.
        perturbation: How far images were perturbed before they were scored; None for images as they are.
    """

    at_half: Annotated[ThresholdMetrics, Field(alias="at_0.5")]
    members: dict[str, MemberFigure]
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
    return Evaluation(
        ThresholdMetrics(**{one.name: getattr(metrics, one.name) for one in fields(ThresholdMetrics)}),
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
        shift: See `evaluate_at`.
        distances: Of the images; None not to look for those that are out of distribution.
        patients: See `evaluate_at`.
        new: Which images show patients of whom the classifier has seen none; None where that is unknown.

    Raises:
        DataError: See `evaluate_at`.
    """
    options = {"seed": seed, "shift": shift, "patients": patients}
    at_threshold = evaluate_at(labels, scores, threshold, **options)
    at_half = at_threshold if threshold == HALF else evaluate_at(labels, scores, HALF, **options)

    def evaluate_part(inside: Bool[np.ndarray, " n"]) -> ThresholdMetrics | None:
        """None where these are all or no images, or a prevalence lacks a class."""
        kept = labels[inside]
        if not 0 < len(kept) < len(labels) or (shift and not has_both_classes(kept)):
            return None
        of_kept = select_patients(patients, inside)
        return evaluate_at(kept, scores[inside], threshold, seed=seed, shift=shift, patients=of_kept)

    figures = [
        to_figures(
            labels,
            shift.correct_scores(alone) if shift else alone,
            alone > threshold,
            prevalence=shift.stated if shift else None,
        )
        for alone in (members if len(members) > 1 else ())
    ]
    outside = None
    if distances is not None:
        far = int((distances > FAR).sum())
        outside = OutOfDistribution(int((distances > 1).sum()) - far, far, evaluate_part(distances <= 1))
    return Evaluation(
        at_threshold,
        at_half,
        to_member_figures(figures),
        out_of_distribution=outside,
        new_patients=None if new is None else evaluate_part(new),
    )


def evaluate_at(
    labels: Labels,
    scores: Scores,
    threshold: float,
    *,
    resamples: int = RESAMPLES,
    seed: int,
    shift: PrevalenceShift | None = None,
    patients: Patients | None = None,
) -> ThresholdMetrics:
    """Evaluates scores: every figure with its interval, see `intervals`.

    Args:
        labels: 0 (normal) or 1 (pneumonia).
        scores: Probabilities of pneumonia, as the classifier gives them.
        threshold: Chosen on other images than these.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        shift: To a stated prevalence: scores and threshold are corrected together, predictions stay, and the
            images are weighted to stand for a population with that prevalence.
        patients: Of the images, where known: intervals then take the images of one together.

    Raises:
        DataError: There are no images, labels or scores are out of range, or a prevalence is stated
            for images of one class.
    """
    check_scores(labels, scores)
    predicted, prevalence = scores > threshold, shift.stated if shift else None
    if shift:
        scores, threshold = shift.correct_scores(scores), shift.correct_threshold(threshold)
    counts = count_predictions(labels, predicted)
    figures = to_intervals(
        to_figures(labels, scores, predicted, prevalence=prevalence),
        labels,
        scores,
        predicted,
        prevalence=prevalence,
        patients=patients,
        resamples=resamples,
        seed=seed,
    )
    return ThresholdMetrics(
        counts.n,
        threshold,
        **asdict(counts),
        figures=figures,
        resamples=resamples,
        seed=seed,
        stated_prevalence=prevalence,
        trained_prevalence=shift.trained if shift else None,
        short_intervals=list_short_intervals(figures, count_rarer(labels, patients)),
        patients=None if patients is None else count_patients(labels, patients),
    )
