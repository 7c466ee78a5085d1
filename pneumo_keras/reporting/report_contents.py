"""What a report shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pneumo_keras.arrays import Scores
from pneumo_keras.data.images import LabelledImages
from pneumo_keras.data.sources import DataCard, ImageNames
from pneumo_keras.evaluation.calibration import Calibration
from pneumo_keras.evaluation.patients import Patients
from pneumo_keras.evaluation.report_card import Evaluation, ThresholdMetrics
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.reporting.explanations import Evidence

MISTAKES = 8  # of each kind


@dataclass(frozen=True)
class PerturbedImages:
    """ImageSet perturbed.

    Attributes:
        scores: Of all images of the split.
        examples: The first of them, as the network saw them.
    """

    scores: Scores
    examples: UInt8[np.ndarray, "_examples _height _width"]


@dataclass(frozen=True)
class FineTuned:
    """Blocks of the network that learnt once the head was fitted.

    Attributes:
        block: The lowest of them.
        learning_rate: Of these.
        kept: Whether they were better for it; what they were before was kept otherwise.
    """

    block: str
    learning_rate: float
    kept: bool


@dataclass(frozen=True)
class ReportContents:
    """Everything that a report shows.

    Attributes:
        run: Name of the run.
        split: `train`, `val` or `test`.
        date: As it is to be shown.
        card: What the images are.
        weights: As in `model.weights`: `imagenet`, `none` or a file.
        images: Of the split, with their labels.
        scores: Of the same images.
        evaluation: Of the scores, together and member by member, and of the perturbed ones, if any.
        evidence: Maps of the most confident mistakes, by the images' indices.
        perturbed: The same images perturbed, if that was asked for.
        prevalence: The share of pneumonia that scores, operating point and figures were corrected to,
            if any was stated.
        calibration: `calibration.json`.
        operating_point: The run's.
        history: A row an epoch, as in `history.csv`.
        epoch_chosen: Whether the epoch was chosen by the validation loss.
        settings: Text of `config.toml`, files by their names alone.
        environment: `environment.json`.
        fine_tuned: Which blocks of the network learnt with the head, and at which rate, if any did.
        of_others: Whether the images are others than those that the run was made with.
        patients: Of the images, where known.
        names: Of the files of the images and of their patients, where known.
    """

    run: str
    split: str
    date: str
    card: DataCard
    weights: str
    images: LabelledImages
    scores: Scores
    evaluation: Evaluation
    evidence: Mapping[int, Evidence]
    perturbed: PerturbedImages | None
    prevalence: float | None
    calibration: Calibration
    operating_point: OperatingPoint
    history: Sequence[dict[str, float]]
    epoch_chosen: bool
    settings: str
    environment: Mapping[str, Any]
    fine_tuned: FineTuned | None = None
    of_others: bool = False
    patients: Patients | None = None
    names: ImageNames = field(default_factory=ImageNames)

    @property
    def at_threshold(self) -> ThresholdMetrics:
        """At the operating point."""
        return self.evaluation.at_threshold

    @property
    def at_thresholds(self) -> list[ThresholdMetrics]:
        """At the operating point, and at 0.5 where that is another threshold."""
        at_half = self.evaluation.at_half
        same = self.at_threshold.threshold == at_half.threshold
        return [self.at_threshold] if same else [self.at_threshold, at_half]
