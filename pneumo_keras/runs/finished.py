"""A finished run read whole, so that nothing of it is replaced before all of it was checked."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from pneumo_keras.config import Config, load_config
from pneumo_keras.data.images import Preparation
from pneumo_keras.errors import RunError, SettingsError
from pneumo_keras.evaluation.calibration import Calibration
from pneumo_keras.evaluation.prevalence import BALANCED_PREVALENCE, PrevalenceShift
from pneumo_keras.evaluation.reliability import BINS
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.runs.folder import SETTINGS, RunFolder
from pneumo_keras.storage.documents import check_part
from pneumo_keras.storage.printable import to_amount

CURVES = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "kept"}


class NotedSplit(TypedDict):
    """What `environment.json` says of the images of a split."""

    sha256: str
    labels_sha256: str
    class_counts: Annotated[list[Annotated[int, Field(ge=0, le=10**9)]], Field(min_length=2, max_length=2)]
    listing_sha256: NotRequired[str]


class NotedPreparation(TypedDict):
    """What it says of how they were prepared."""

    size: int
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None


class NotedData(TypedDict):
    """What it says of where they came from."""

    title: str
    notice: str
    files: dict[str, str]
    preparation: NotedPreparation


class NotedImages(TypedDict):
    """The images that a run learnt from."""

    train: NotedSplit
    val: NotedSplit


NotedWeights = TypedDict("NotedWeights", {"0": float, "1": float})
"""Class weights, of normal and of pneumonia images."""


class Noted(TypedDict):
    """What is read of `environment.json`; it holds more, for people."""

    images: NotedImages
    data: NotedData
    paths: dict[str, str]
    class_weights: NotedWeights
    packages: dict[str, str]
    weights_sha256: str
    fine_tuned_weights_sha256: NotRequired[str]
    classifier_sha256: str


@dataclass(frozen=True)
class FinishedRun:
    """What a training left for those that come after it.

    Attributes:
        config: The settings, as the user wrote them; `environment` has the resolved paths.
        operating_point: From which score on an image is called pneumonia.
        calibration: What the scores mean.
        history: A row an epoch.
        environment: What the run was made with.
    """

    config: Config
    operating_point: OperatingPoint
    calibration: Calibration
    history: list[dict[str, float]]
    environment: dict[str, Any]

    @property
    def preparation(self) -> Preparation:
        """Of its training images, and so of all that it scores."""
        return Preparation(**self.environment["data"]["preparation"])

    def state_prevalence(self, share: float | None) -> tuple[PrevalenceShift | None, OperatingPoint]:
        """What another share of pneumonia makes of the scores, and of the operating point.

        Args:
            share: Where the scores are to be used, in (0, 1); None to leave both alone.
        """
        if share is None:
            return None, self.operating_point
        shift = PrevalenceShift(self.calibration.prevalence, share)
        return shift, shift.correct_point(self.operating_point)


def load_run(folder: RunFolder) -> FinishedRun:
    """Reads and checks everything of a run but its model.

    Raises:
        RunError: There is no finished run, one of its files is missing or damaged, or two of them speak
            of different runs; the file is named.
    """
    folder.check_finished()
    run = FinishedRun(
        config=load_settings(folder),
        operating_point=folder.load_document(OperatingPoint, "operating_point.json"),
        calibration=folder.load_document(Calibration, "calibration.json"),
        history=_load_history(folder),
        environment=folder.load_document(dict, "environment.json"),
    )
    check_part(Noted, run.environment, name=str(folder.path / "environment.json"))
    for name, fault in _find_faults(run):
        raise RunError(f"{folder.path / name} is damaged: {fault}. Train again.")
    return run


def load_settings(folder: RunFolder) -> Config:
    """The settings of a run, as the user wrote them.

    Raises:
        RunError: They are damaged.
    """
    path = folder.verify(SETTINGS)
    try:
        return load_config(str(path))
    except SettingsError as error:
        raise RunError(f"{path} is damaged, or of another version. {error}") from error


def _find_faults(run: FinishedRun) -> Iterator[tuple[str, str]]:
    """Files that do not fit the settings or the images of the run, and in what."""
    asked, point, calibration = run.config.evaluation, run.operating_point, run.calibration
    demand = {name: getattr(asked, name) for name in point.demand}
    if (point.rule, point.demand) != (asked.rule, demand):
        yield "operating_point.json", "it was chosen otherwise than the settings of the run ask for"
    if point.rule == "fixed" and point.threshold != point.demand["threshold"]:
        yield "operating_point.json", "its threshold is not the one that the settings give"
    if calibration.method != asked.calibration:
        yield "calibration.json", "it was fitted otherwise than the settings of the run ask for"
    if calibration.method != "platt" and calibration.prevalence != BALANCED_PREVALENCE:
        yield "calibration.json", f"without an intercept its prevalence is {BALANCED_PREVALENCE}"
    if calibration.fitted_on != "val" or calibration.bins != BINS:
        yield "calibration.json", "it speaks of other images, or other bins, than this program fits"
    images, counts = run.environment["images"], point.counts
    if point.chosen_on != "val":
        yield "operating_point.json", "it was not chosen on validation images"
    if images["val"]["class_counts"] != [counts.tn + counts.fp, counts.fn + counts.tp]:
        yield "operating_point.json", "its counts are of other images than those of environment.json"
    learnt = images["train"]["class_counts"]
    balanced = [sum(learnt) / (2 * count) if count else math.nan for count in learnt]
    weights = [run.environment["class_weights"][label] for label in ("0", "1")]
    if set(images) != {"train", "val"} or not np.allclose(weights, balanced):
        yield "environment.json", "its class weights are not those of its training images"
    if run.preparation.size != run.config.data.size:
        yield "environment.json", "it speaks of images of another size than the settings"
    training = run.config.training
    tuned = training.unfreeze_from is not None
    if ("fine_tuned_weights_sha256" in run.environment) != tuned:
        yield "environment.json", "it says of fine-tuned weights what the settings do not ask for"
    if len(run.history) > training.epochs + tuned * training.unfrozen_epochs:
        yield "history.csv", "it has more epochs than the settings ask for"


def _load_history(folder: RunFolder) -> list[dict[str, float]]:
    path = folder.path / "history.csv"
    try:
        rows = list(csv.DictReader(io.StringIO(folder.read_text(path.name))))
        history = [{name: float(value) for name, value in row.items()} for row in rows]
    except (TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{path} must hold numbers: {error}. Train again.") from error
    if not history or not history[0].keys() >= CURVES:
        raise RunError(
            f"{path} must have a row an epoch, with {', '.join(sorted(CURVES))}. "
            f"Received: {to_amount(len(history), 'row')}. Train again."
        )
    if not all(math.isfinite(value) for row in history for value in row.values()):
        raise RunError(f"{path} must hold finite numbers. Train again.")
    if [row["epoch"] for row in history] != [*range(1, len(history) + 1)] or not any(
        row["kept"] for row in history
    ):
        raise RunError(f"{path} must count its epochs from 1, and say which were kept. Train again.")
    return history
