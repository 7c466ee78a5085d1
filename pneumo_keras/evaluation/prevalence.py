"""Another prevalence than in training: scores and thresholds corrected for it.

That is right where only the prevalence differs, not the looks of normal and pneumonia images. Sensitivity,
specificity and AUC do not depend on the prevalence. Images are weighted by `metrics.weigh_images`.
"""

from dataclasses import dataclass, replace

import numpy as np

from pneumo_keras.arrays import Scores
from pneumo_keras.errors import SettingsError
from pneumo_keras.evaluation.threshold import OperatingPoint

BALANCED_PREVALENCE = 0.5
"""What balanced class weights show to a classifier: they give both classes the same total weight."""


@dataclass(frozen=True)
class PrevalenceShift:
    """From the prevalence that scores were fitted for to a stated one, never learnt from test labels.

    Scores and thresholds move together and keep their order, so no prediction changes.
    """

    trained: float
    stated: float

    def __post_init__(self) -> None:
        """Raises a SettingsError unless both are in (0, 1)."""
        if not (0 < self.trained < 1 and 0 < self.stated < 1):
            raise SettingsError(
                "A prevalence is a share in (0, 1). "
                f"Received: trained on {self.trained}, stated {self.stated}."
            )

    def correct_scores(self, scores: Scores) -> Scores:
        """Scores with their odds multiplied by the ratio of the odds of the two prevalences.

        References:
            Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI, theorem 2.
            Saerens, M., Latinne, P. & Decaestecker, C. (2002). Adjusting the outputs of a classifier
            to new a priori probabilities. Neural Computation 14, 21-41.
        """
        pneumonia = scores * (self.stated / self.trained)
        normal = (1 - scores) * ((1 - self.stated) / (1 - self.trained))
        return pneumonia / (pneumonia + normal)

    def correct_threshold(self, threshold: float) -> float:
        """The threshold that gives corrected scores the predictions that `threshold` gives plain ones."""
        return float(self.correct_scores(np.array([threshold]))[0])

    def correct_point(self, point: OperatingPoint) -> OperatingPoint:
        """The operating point for corrected scores; what it reached stays, as its predictions do."""
        return replace(point, threshold=self.correct_threshold(point.threshold))
