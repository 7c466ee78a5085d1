"""A finished run, loaded in one place, and what it says of an image."""

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from pneumo_keras.arrays import CLASS_NAMES, Images, Labels, Scores
from pneumo_keras.config import Config, load_config
from pneumo_keras.data.hashes import Hashes
from pneumo_keras.data.images import Preparation
from pneumo_keras.errors import RunError, SettingsError
from pneumo_keras.evaluation.calibration import Calibration
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import FAR
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.runs.folder import MODEL, NORMAL_IMAGES, OOD_DETECTOR, SEEN_IMAGES, SETTINGS, RunFolder

if TYPE_CHECKING:
    from pneumo_keras.features.ood import OodDetector
    from pneumo_keras.model.classifier import Classifier

NOT_SCORED = "not scored: "
"""What the warning of an image without a score begins with: the reason follows."""
NORMAL_COUNT = 8  # 16 find no more opacities on phantoms, and each passes the network
COLUMNS = ("path", "probability", "prediction", "threshold", "warning")


@dataclass(frozen=True)
class Run:
    """What a training left for those that come after it. What needs Keras is loaded when it is asked for.

    Attributes:
        folder: Where it lies.
        config: The settings, as the user wrote them; `environment` has the resolved paths.
        operating_point: Above which score an image is predicted to show pneumonia.
        calibration: What the scores mean.
        history: A row an epoch.
        environment: What the run was made with.
    """

    folder: RunFolder
    config: Config
    operating_point: OperatingPoint
    calibration: Calibration
    history: list[dict[str, float]]
    environment: dict[str, Any]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.path.resolve().name

    @property
    def preparation(self) -> Preparation:
        """Of its training images, and so of all that it scores."""
        return Preparation(**self.environment["data"]["preparation"])

    def to_prevalence(self, prevalence: float | None) -> tuple[PrevalenceShift | None, OperatingPoint]:
        """What another prevalence makes of the scores, and of the operating point.

        Args:
            prevalence: Where the scores are to be used, in (0, 1); None to leave both alone.
        """
        if prevalence is None:
            return None, self.operating_point
        shift = PrevalenceShift(self.calibration.prevalence, prevalence)
        return shift, shift.correct_point(self.operating_point)

    @cached_property
    def classifier(self) -> "Classifier":
        """Network, head and decision. Raises ModelError where the file is damaged."""
        from pneumo_keras.model.classifier import load_classifier

        return load_classifier(self.folder.verify(MODEL))

    @cached_property
    def ood_detector(self) -> "OodDetector":
        """What measures how far images lie from the training images."""
        from pneumo_keras.features.ood import load_ood_detector

        return load_ood_detector(self.folder.verify(OOD_DETECTOR))

    @cached_property
    def normal_images(self) -> Images:
        """Normal images that others are compared with to be explained."""
        with np.load(self.folder.verify(NORMAL_IMAGES)) as file:
            return file["images"]

    @cached_property
    def seen_images(self) -> Hashes:
        """A hash of each training and validation image, by which it is known wherever it lies."""
        return np.load(self.folder.verify(SEEN_IMAGES))


def load_run(path: Path) -> Run:
    """Reads a finished run.

    Args:
        path: Of its folder.

    Raises:
        RunError: There is none, or one of its files is missing or damaged; the file is named.
    """
    folder = RunFolder(path)
    folder.check_finished()
    rows = csv.DictReader(io.StringIO(folder.read_text("history.csv")))
    return Run(
        folder=folder,
        config=load_settings(folder),
        operating_point=folder.load_document(OperatingPoint, "operating_point.json"),
        calibration=folder.load_document(Calibration, "calibration.json"),
        history=[{name: float(value) for name, value in row.items()} for row in rows],
        environment=folder.load_document(dict, "environment.json"),
    )


def load_settings(folder: RunFolder) -> Config:
    """The settings of a run, as the user wrote them.

    Raises:
        RunError: They are damaged.
    """
    path = folder.verify(SETTINGS)
    try:
        return load_config(str(path))
    except SettingsError as error:
        raise RunError(f"{path} is of another version. {error}") from error


def choose_normal_images(labels: Labels, scores: Scores) -> Int64[np.ndarray, " chosen"]:
    """Indices of validation images that are plainly normal to the classifier, too, and are not all alike.

    Evenly from the half of the normal images with the lower scores; from all images where none is normal.
    """
    normal = np.flatnonzero(labels == 0) if (labels == 0).any() else np.arange(len(labels))
    by_score = normal[np.argsort(scores[normal], kind="stable")]
    lower = by_score[: (len(by_score) + 1) // 2]
    return lower[np.unique(np.linspace(0, len(lower) - 1, NORMAL_COUNT).round().astype(int))]


@dataclass(frozen=True)
class ScoredImage:
    """What a run says of a file: a row of `predict`.

    Attributes:
        path: Of the file, as it was named.
        probability: Of pneumonia, in [0, 1]; None where no image could be read.
        threshold: Above it pneumonia is predicted.
        warning: What to know before believing the score, or why there is none; "" if nothing.
    """

    path: str
    probability: float | None
    threshold: float
    warning: str

    @property
    def prediction(self) -> str | None:
        """The predicted class; None where there is no score."""
        return None if self.probability is None else CLASS_NAMES[self.probability > self.threshold]

    def to_row(self) -> dict[str, str | float | None]:
        """By column."""
        return {name: getattr(self, name) for name in COLUMNS}


def to_warning(distance: float, shape: tuple[int, int], data_size: int) -> str:
    """What to know of an image before its score is believed.

    Args:
        distance: From the training images, as `OodDetector.measure` gives it.
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
