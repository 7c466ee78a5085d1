"""A finished run, loaded once, and the score that it gives a file."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import numpy as np
from jaxtyping import Int64
from pydantic import Field
from typing_extensions import TypedDict

from pneumo_keras.arrays import CLASS_NAMES, Images, Labels, Scores
from pneumo_keras.config import Config
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.overlap import Hashes
from pneumo_keras.errors import ModelError, RunError
from pneumo_keras.evaluation.calibration import Calibration
from pneumo_keras.evaluation.prevalence import BALANCED_PREVALENCE, PrevalenceShift
from pneumo_keras.evaluation.report_card import FAR
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.model.inference import Axis, HeadMembers, PooledLayer, load_head
from pneumo_keras.runs.folder import HEAD, MODEL, NETWORK, NORMAL_IMAGES, OOD_DETECTOR, SEEN_IMAGES, RunFolder
from pneumo_keras.storage.documents import check_part

if TYPE_CHECKING:
    from pneumo_keras.features.ood import OodDetector
    from pneumo_keras.model.classifier import Classifier

HISTORY = "history.csv"
CURVES = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "kept"}


class _Split(TypedDict):
    sha256: str
    labels_sha256: str
    class_counts: Annotated[list[Annotated[int, Field(ge=0, le=10**9)]], Field(min_length=2, max_length=2)]
    listing_sha256: NotRequired[str]


class _Preparation(TypedDict):
    size: int
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None


class _Data(TypedDict):
    title: str
    notice: str
    files: dict[str, str]
    preparation: _Preparation


class _Cells(TypedDict):
    first: float
    step: Annotated[float, Field(gt=0)]


class _Layer(TypedDict):
    d: Annotated[int, Field(ge=1, le=10**6)]
    fingerprint: str
    shape: Annotated[list[Annotated[int, Field(ge=1, le=10**4)]], Field(min_length=2, max_length=2)]
    down: _Cells
    across: _Cells


class _Splits(TypedDict):
    train: _Split
    val: _Split


_ClassWeights = TypedDict("_ClassWeights", {"0": float, "1": float})


class _Environment(TypedDict):
    """The part of `environment.json` that is read; the rest is only for human readers."""

    images: _Splits
    data: _Data
    paths: dict[str, str]
    class_weights: _ClassWeights
    packages: dict[str, str]
    weights_sha256: str
    feature_layers: dict[str, _Layer]
    fine_tuned_weights_sha256: NotRequired[str]
    classifier_sha256: str


NOT_SCORED = "not scored: "  # begins the warning of an image without a score: the reason follows
NORMAL_COUNT = 8  # 16 find no more opacities on phantoms, and each passes the network
COLUMNS = ("path", "probability", "prediction", "warning")


@dataclass(frozen=True)
class Run:
    """A finished run; what needs Keras is loaded on first use.

    `config` has the settings as the user wrote them, `environment` what the run was made with: paths, images,
    versions, device, fingerprints. `history` has a row an epoch.
    """

    folder: RunFolder
    config: Config
    operating_point: OperatingPoint
    calibration: Calibration
    history: list[dict[str, float]]
    environment: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.resolve().name

    @property
    def preparation(self) -> Preparation:
        """How its training images were prepared, and so all that it scores."""
        return Preparation(**self.environment["data"]["preparation"])

    def to_prevalence(self, prevalence: float | None) -> tuple[PrevalenceShift | None, OperatingPoint]:
        """The correction of scores to another prevalence in (0, 1), and the operating point then.

        Of None: no correction, and the operating point as it was chosen.
        """
        if prevalence is None:
            return None, self.operating_point
        shift = PrevalenceShift(self.calibration.prevalence, prevalence)
        return shift, shift.correct_point(self.operating_point)

    @cached_property
    def classifier(self) -> "Classifier":
        """Network, head and decision; ModelError where the file holds others than those that were trained."""
        import keras

        from pneumo_keras.model.classifier import load_classifier
        from pneumo_keras.model.fingerprint import compute_fingerprint

        path = self.folder.verify(MODEL)
        classifier = load_classifier(path)
        # Another version of Keras may describe the same layer differently.
        comparable = self.environment["packages"].get("keras") == keras.__version__
        if comparable and compute_fingerprint(classifier.join()) != self.environment["classifier_sha256"]:
            raise ModelError(
                f"{path} is not the classifier of this run: it has other weights or settings than were noted "
                "when it was trained. Train again."
            )
        return classifier

    @cached_property
    def network(self) -> Path:
        """The frozen network as an ONNX file, from images to features."""
        return self.folder.verify(NETWORK)

    @property
    def feature_layers(self) -> dict[str, PooledLayer]:
        """The feature layers of the network, in their order."""
        return {
            name: PooledLayer(
                about["d"],
                about["fingerprint"],
                tuple(about["shape"]),
                Axis(**about["down"]),
                Axis(**about["across"]),
            )
            for name, about in self.environment["feature_layers"].items()
        }

    @cached_property
    def head(self) -> HeadMembers:
        """The head of the classifier."""
        return load_head(self.folder.verify(HEAD))

    @cached_property
    def ood_detector(self) -> "OodDetector":
        """Measures how far images are from the training images."""
        from pneumo_keras.features.ood import load_ood_detector

        return load_ood_detector(self.folder.verify(OOD_DETECTOR))

    @cached_property
    def normal_images(self) -> Images:
        """Normal images that others are compared with to be explained."""
        with np.load(self.folder.verify(NORMAL_IMAGES)) as file:
            return file["images"]

    @cached_property
    def seen_images(self) -> Hashes:
        """A hash of each training and validation image."""
        return np.load(self.folder.verify(SEEN_IMAGES))


def load_run(path: Path) -> Run:
    """Reads a finished run from its folder.

    Raises:
        RunError: There is none, a file is missing or damaged, or two belong to different runs.
    """
    folder = RunFolder(path)
    folder.check_finished()
    run = Run(
        folder=folder,
        config=folder.load_settings(),
        operating_point=folder.load_document(OperatingPoint, "operating_point.json"),
        calibration=folder.load_document(Calibration, "calibration.json"),
        history=_load_history(folder),
        environment=folder.load_document(dict, "environment.json"),
    )
    check_part(_Environment, run.environment, name=str(folder.path / "environment.json"))
    for name, fault in _find_faults(run):
        raise RunError(f"{folder.path / name} is damaged: {fault}. Train again.")
    return run


def _find_faults(run: Run) -> Iterator[tuple[str, str]]:
    """Files that contradict the settings or the images of the run, and why."""
    asked, point, calibration = run.config.evaluation, run.operating_point, run.calibration
    demand = {name: getattr(asked, name) for name in point.demand}
    if (point.rule, point.demand) != (asked.rule, demand):
        yield "operating_point.json", "it was not chosen as the settings of the run ask for"
    if point.rule == "fixed" and point.threshold != point.demand["threshold"]:
        yield "operating_point.json", "its threshold is not the one that the settings give"
    if calibration.method != asked.calibration:
        yield "calibration.json", "it was not fitted as the settings of the run ask for"
    if calibration.method != "platt" and calibration.prevalence != BALANCED_PREVALENCE:
        yield "calibration.json", f"without an intercept its prevalence is {BALANCED_PREVALENCE}"
    if calibration.fitted_on != "val":
        yield "calibration.json", "it was not fitted on validation images"
    images, counts = run.environment["images"], point.counts
    if point.chosen_on != "val":
        yield "operating_point.json", "it was not chosen on validation images"
    if images["val"]["class_counts"] != [counts.tn + counts.fp, counts.fn + counts.tp]:
        yield "operating_point.json", "its counts are of other images than those of environment.json"
    trained = images["train"]["class_counts"]
    balanced = [sum(trained) / (2 * count) if count else math.nan for count in trained]
    weights = [run.environment["class_weights"][label] for label in ("0", "1")]
    if set(images) != {"train", "val"} or not np.allclose(weights, balanced):
        yield "environment.json", "its class weights are not those of its training images"
    if run.preparation.size != run.config.data.size:
        yield "environment.json", "its images have another size than that of the settings"
    training = run.config.training
    tuned = training.unfreeze_from is not None
    if ("fine_tuned_weights_sha256" in run.environment) != tuned:
        yield "environment.json", "it contradicts the settings about fine-tuned weights"
    if len(run.history) > training.epochs + tuned * training.unfrozen_epochs:
        yield HISTORY, "it has more epochs than the settings ask for"


def _load_history(folder: RunFolder) -> list[dict[str, float]]:
    try:
        rows = list(csv.DictReader(io.StringIO(folder.read_text(HISTORY))))
        history = [{name: float(value) for name, value in row.items()} for row in rows]
    except (TypeError, ValueError, csv.Error):
        history = []
    if not (
        history
        and history[0].keys() >= CURVES
        and all(math.isfinite(value) for row in history for value in row.values())
        and [row["epoch"] for row in history] == [*range(1, len(history) + 1)]
        and any(row["kept"] for row in history)
    ):
        raise RunError(
            f"{folder.path / HISTORY} must have a row of finite numbers for each epoch from 1 on, some "
            f"of them kept, with {', '.join(sorted(CURVES))}. Train again."
        )
    return history


def choose_normal_images(labels: Labels, scores: Scores) -> Int64[np.ndarray, " chosen"]:
    """Indices of validation images with which others are compared to be explained.

    Evenly from the half of the normal images with the lower scores: the classifier, too, finds them normal,
    and they differ from each other. From all images where none is normal.
    """
    normal = np.flatnonzero(labels == 0) if (labels == 0).any() else np.arange(len(labels))
    by_score = normal[np.argsort(scores[normal], kind="stable")]
    lower = by_score[: (len(by_score) + 1) // 2]
    return lower[np.unique(np.linspace(0, len(lower) - 1, NORMAL_COUNT).round().astype(int))]


@dataclass(frozen=True)
class ScoredImage:
    """The score of a file: a row of `predict`.

    Attributes:
        path: As it was named.
        probability: Of pneumonia, in [0, 1]; None where no image could be read.
        threshold: Above it pneumonia is predicted.
        warning: Doubts about the score, or why there is none; "" if nothing.
        distance: From the training images, as `OodDetector.measure` gives it; None without a score.
    """

    path: str
    probability: float | None
    threshold: float
    warning: str
    distance: float | None = None

    @property
    def prediction(self) -> str | None:
        """The predicted class; None where there is no score."""
        return None if self.probability is None else CLASS_NAMES[self.probability > self.threshold]

    @property
    def out_of_distribution(self) -> bool:
        """Whether the image is outside the range of the training images."""
        return self.distance is not None and self.distance > 1

    def to_row(self) -> dict[str, str | float | None]:
        """The row by column."""
        return {name: getattr(self, name) for name in COLUMNS}


def to_warning(distance: float, shape: tuple[int, int], data_size: int) -> str:
    """Doubts about the score of an image; "" if none.

    Args:
        distance: From the training images, as `OodDetector.measure` gives it.
        shape: Height and width of the image in its file, in pixels.
        data_size: Height and width of the training images.
    """
    warnings = []
    if distance > 1:
        advice = ": do not use the prediction" if distance > FAR else ""
        degree = "far outside" if distance > FAR else "outside"
        warnings.append(f"{degree} the range of the training images ({distance:.1f} x the limit){advice}")
    if min(shape) < data_size:
        warnings.append(f"smaller than the training images ({shape[1]} x {shape[0]} px)")
    return "; ".join(warnings)
