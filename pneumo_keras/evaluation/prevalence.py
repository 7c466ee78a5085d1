"""Another share of pneumonia than in training: scores, thresholds and images made to speak of it.

The one place where that is done. It is right where only the shares of the classes differ, not the
looks of normal and pneumonia images. Sensitivity, specificity and AUC do not depend on the share.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.evaluation.metrics import has_both_classes, to_prevalence
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.storage.printable import to_amount

BALANCED_PREVALENCE = 0.5
"""The share of pneumonia that balanced class weights show to a classifier: they give both classes the
same total weight, whatever the counts of images."""


@dataclass(frozen=True)
class PrevalenceShift:
    """From the share of pneumonia that scores were fitted for to a stated one.

    Scores and thresholds move together and keep their order, so no call changes.

    Attributes:
        trained: Share of pneumonia that the scores speak of, in (0, 1).
        stated: Share of pneumonia where they are to be used, in (0, 1); never learnt from test labels.
    """

    trained: float
    stated: float

    def __post_init__(self) -> None:
        """Checks both shares.

        Raises:
            SettingsError: One is not in (0, 1).
        """
        if not (0 < self.trained < 1 and 0 < self.stated < 1):
            raise SettingsError(
                "A prevalence is a share in (0, 1). "
                f"Received: trained on {self.trained}, stated {self.stated}."
            )

    def correct_scores(self, scores: Scores) -> Scores:
        """Scores with their odds multiplied by the ratio of the odds of the two shares.

        References:
            Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI, theorem 2.
            Saerens, M., Latinne, P. & Decaestecker, C. (2002). Adjusting the outputs of a classifier
            to new a priori probabilities. Neural Computation 14, 21-41.
        """
        pneumonia = scores * (self.stated / self.trained)
        normal = (1 - scores) * ((1 - self.stated) / (1 - self.trained))
        return pneumonia / (pneumonia + normal)

    def correct_threshold(self, threshold: float) -> float:
        """The threshold that gives corrected scores the calls that `threshold` gives plain ones."""
        return float(self.correct_scores(np.array([threshold]))[0])

    def correct_point(self, point: OperatingPoint) -> OperatingPoint:
        """The operating point for corrected scores; what it reached stays, as its calls do."""
        return replace(point, threshold=self.correct_threshold(point.threshold))


def weigh_classes(labels: Labels, prevalence: float | None) -> tuple[float, float]:
    """Weights of a normal and of a pneumonia image with which images stand for a population.

    Args:
        labels: Of the images.
        prevalence: Share of pneumonia in the population, in (0, 1); None for the images' own.

    Returns:
        Weights whose sum over all images is their number; (1, 1) for the images' own share.

    Raises:
        DataError: The images of one class cannot stand for a population with both.
    """
    if prevalence is None:
        return 1.0, 1.0
    if not has_both_classes(labels):
        raise DataError(
            "A stated prevalence takes normal and pneumonia images. "
            f"Received: {to_amount(len(labels), 'image')} of one class."
        )
    share = to_prevalence(labels)
    return (1 - prevalence) / (1 - share), prevalence / share


def weigh_images(labels: Labels, prevalence: float | None) -> Float64[np.ndarray, " n"]:
    """The weight of each image, see `weigh_classes`."""
    normal, pneumonia = weigh_classes(labels, prevalence)
    return np.where(labels == 1, pneumonia, normal)
