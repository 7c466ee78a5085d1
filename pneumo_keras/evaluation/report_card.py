"""All metrics of one classifier on one split, with their intervals: the content of `metrics_<split>.json`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import Field

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import Interval, choose_resamples, list_short_intervals, to_intervals
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
from pneumo_keras.evaluation.subgroups import Subgroup, evaluate_subgroups
from pneumo_keras.storage.documents import FloatOrNan

Distances = Float64[np.ndarray, " n"]
"""From the training images: 1 at the limit that only a few validation images exceed."""

FAR = 1.5
"""Distance above which a prediction is of no use."""
HALF = 0.5  # MedMNIST's threshold, for comparable metrics


@dataclass(frozen=True)
class MemberFigure:
    """One metric of every member, its mean, and its standard deviation (n - 1), NaN for one member."""

    mean: FloatOrNan
    deviation: FloatOrNan
    values: tuple[FloatOrNan, ...]


def to_member_figures(members: Sequence[Mapping[str, float]]) -> dict[str, MemberFigure]:
    """Each metric of all members by its name, from all metrics of each member."""
    found = {}
    for name in members[0] if members else ():
        values = tuple(figures[name] for figures in members)
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        found[name] = MemberFigure(float(np.mean(values)), deviation, values)
    return found


@dataclass(frozen=True, kw_only=True)
class ThresholdMetrics:
    """All metrics at one threshold, above which pneumonia is predicted.

    Attributes:
        n: Number of images.
        threshold: Corrected to the stated prevalence, if any.
        counts: Images by label and prediction.
        figures: Metrics by name.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        stated_prevalence: Prevalence corrected to, in all of these; None for the images' own.
        trained_prevalence: Prevalence before a correction, if any.
        short_intervals: Metrics whose intervals are known to be too short for so few images.
        patients: Counts, where patients are known and intervals take the images of one together.
    """

    n: int
    threshold: float
    counts: ConfusionCounts
    figures: dict[str, Interval]
    resamples: int
    seed: int
    stated_prevalence: float | None
    trained_prevalence: float | None
    short_intervals: list[str]
    patients: PatientCounts | None

    @property
    def ranks_backwards(self) -> bool:
        """Whether the AUC is clearly below that of guessing, as with swapped labels."""
        return self.figures["auc"].high < HALF


@dataclass(frozen=True)
class OutOfDistribution:
    """Images outside the range of the training images, and the metrics of all others.

    Attributes:
        outside: Number of images up to `FAR` times the limit away.
        far_outside: Number of images further away: their predictions are of no use.
        inside: None where all images are inside, or none.
    """

    outside: int
    far_outside: int
    inside: ThresholdMetrics | None

    @property
    def n(self) -> int:
        """Images that are warned about."""
        return self.outside + self.far_outside


@dataclass(frozen=True, kw_only=True)
class Evaluation(ThresholdMetrics):
    """A classifier on one split: at its operating point, at 0.5, and member by member.

    Attributes:
        at_half: At 0.5, whatever the operating point; where scores are corrected, with the predictions of
            plain scores at 0.5.
        members: Each metric of every member alone, at the operating point; empty for one member.
        out_of_distribution: None where that was not looked for.
        new_patients: Images of patients of whom the classifier has seen none; None where that is unknown, or
            they are all or none.
        subgroups: Images by the further columns of a CSV.
        ungrouped_columns: Those that have too many different values for subgroups.
        perturbed: Metrics of the same images perturbed, if requested.
    """

    at_half: Annotated[ThresholdMetrics, Field(alias="at_0.5")]
    members: dict[str, MemberFigure]
    out_of_distribution: OutOfDistribution | None = None
    new_patients: ThresholdMetrics | None = None
    subgroups: list[Subgroup] = field(default_factory=list)
    ungrouped_columns: list[str] = field(default_factory=list)
    perturbed: "PerturbedEvaluation | None" = None


@dataclass(frozen=True, kw_only=True)
class PerturbedEvaluation(Evaluation):
    """The same classifier on the same images, each perturbed once: `metrics_<split>_perturbed.json`.

    Attributes:
        changes: Each figure less that of the images as they are, in pairs.
        perturbation: The settings of it.
        robustness: The same by kind and severity, each kind alone.
    """

    changes: dict[str, Difference]
    perturbation: dict[str, Any]
    robustness: Robustness


@dataclass(frozen=True, kw_only=True)
class Metrics(Evaluation):
    """`metrics_<split>.json`: an evaluation, and fingerprints of images (their pixels), labels and scores."""

    split: str
    images_sha256: str
    labels_sha256: str
    scores_sha256: str


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
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Evaluation:
    """Evaluates scores at the operating point and at 0.5, and every member by itself; see `evaluate_at`.

    `members` are the scores of each. Without `distances` no image is taken for out of distribution, and
    `new` marks the images of patients who were not in the training, if that is known. For `columns` see
    `evaluate_subgroups`.
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
    subgroups, ungrouped = evaluate_subgroups(labels, scores, scores > threshold, columns or {}, patients)
    return Evaluation(
        **vars(at_threshold),
        at_half=at_half,
        members=to_member_figures(figures),
        out_of_distribution=outside,
        new_patients=None if new is None else evaluate_part(new),
        subgroups=subgroups,
        ungrouped_columns=ungrouped,
    )


def evaluate_at(
    labels: Labels,
    scores: Scores,
    threshold: float,
    *,
    resamples: int | None = None,
    seed: int,
    shift: PrevalenceShift | None = None,
    patients: Patients | None = None,
) -> ThresholdMetrics:
    """Every metric with its interval, at a threshold that was chosen on other images than these.

    A `shift` corrects scores and threshold together to a stated prevalence: predictions stay, and the images
    are weighted to represent a population with it.

    Raises:
        DataError: There are no images, labels or scores are out of range, or a prevalence is stated
            for images of one class.
    """
    check_scores(labels, scores)
    resamples = resamples or choose_resamples(len(labels))
    predicted, prevalence = scores > threshold, shift.stated if shift else None
    if shift:
        scores, threshold = shift.correct_scores(scores), shift.correct_threshold(threshold)
    options = {"prevalence": prevalence, "patients": patients, "resamples": resamples, "seed": seed}
    figures = to_intervals(labels, scores, predicted, **options)
    return ThresholdMetrics(
        n=len(labels),
        threshold=threshold,
        counts=count_predictions(labels, predicted),
        figures=figures,
        resamples=resamples,
        seed=seed,
        stated_prevalence=prevalence,
        trained_prevalence=shift.trained if shift else None,
        short_intervals=list_short_intervals(figures, count_rarer(labels, patients)),
        patients=None if patients is None else count_patients(labels, patients),
    )
