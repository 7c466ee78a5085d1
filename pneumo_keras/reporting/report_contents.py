"""What a report shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pneumo_keras.arrays import Scores
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.data.sources import DataCard, ImageNames
from pneumo_keras.evaluation.calibration import Calibration
from pneumo_keras.evaluation.patients import Patients
from pneumo_keras.evaluation.report_card import Evaluation, Judgement
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.reporting.explanations import Evidence

MISTAKES = 8  # of each kind


@dataclass(frozen=True)
class PerturbedFilms:
    """Films perturbed.

    Attributes:
        scores: Of all films of the split.
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
        card: What the films are.
        weights: As in `model.weights`: `imagenet`, `none` or a file.
        films: Of the split, with their labels.
        scores: Of the same films.
        judgement: Of the scores, together and member by member, and of the perturbed ones, if any.
        evidence: Maps of the most confident mistakes, by the films' indices.
        perturbed: The same films perturbed, if that was asked for.
        prevalence: The share of pneumonia that scores, operating point and figures were corrected to,
            if any was stated.
        calibration: `calibration.json`.
        operating_point: The run's.
        history: A row an epoch, as in `history.csv`.
        epoch_chosen: Whether the epoch was chosen by the validation loss.
        settings: Text of `config.toml`, files by their names alone.
        environment: `environment.json`.
        fine_tuned: Which blocks of the network learnt with the head, and at which rate, if any did.
        of_others: Whether the films are others than those that the run was made with.
        patients: Of the films, where known.
        names: Of the files of the films and of their patients, where known.
    """

    run: str
    split: str
    date: str
    card: DataCard
    weights: str
    films: LabelledFilms
    scores: Scores
    judgement: Judgement
    evidence: Mapping[int, Evidence]
    perturbed: PerturbedFilms | None
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
    def evaluation(self) -> Evaluation:
        """At the operating point."""
        return self.judgement.evaluation

    @property
    def evaluations(self) -> list[Evaluation]:
        """At the operating point, and at 0.5 where that is another threshold."""
        at_half = self.judgement.at_half
        same = self.evaluation.threshold == at_half.threshold
        return [self.evaluation] if same else [self.evaluation, at_half]
