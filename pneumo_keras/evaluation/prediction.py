"""What a run says of one image."""

from dataclasses import dataclass

from pneumo_keras.arrays import CLASS_NAMES

FAR = 1.5
"""Distance from the training images, as `OOD detector.measure` gives it, above which a prediction is of no use."""
NOT_SCORED = "not scored: "
"""What the warning of an image without a score begins with: the reason follows."""


@dataclass(frozen=True)
class ScoredImage:
    """What a run says of a file.

    Attributes:
        path: Of the file, as it was named.
        probability: Of pneumonia, in [0, 1]; None where no image could be read.
        threshold: Above it an image is called pneumonia.
        warning: What to know before believing the score, or why there is none; "" if nothing.
    """

    path: str
    probability: float | None
    threshold: float
    warning: str

    @property
    def margin(self) -> float | None:
        """Of the probability above the threshold."""
        return None if self.probability is None else self.probability - self.threshold

    @property
    def prediction(self) -> str | None:
        """The class that the image is called."""
        return None if self.margin is None else CLASS_NAMES[self.margin > 0]


def to_warning(distance: float, shape: tuple[int, int], data_size: int) -> str:
    """What to know of an image before its score is believed.

    Args:
        distance: From the training images, as `OOD detector.measure` gives it.
        shape: Height and width of the image in its file, in pixels.
        data_size: Of the training images.
    """
    warnings = []
    if distance > 1:
        advice = ": do not use the prediction" if distance > FAR else ""
        degree = "far outside" if distance > FAR else "outside"
        warnings.append(f"{degree} the range of the training images ({distance:.1f} x the limit){advice}")
    if min(shape) < data_size:
        warnings.append(f"smaller than the training images ({shape[1]} x {shape[0]} px)")
    return "; ".join(warnings)
