"""The Python interface: runs trained, evaluated and applied by the code of the command line.

`pneumo_keras` itself offers these names, and imports this module when the first of them is used.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Bool
from PIL import Image

from pneumo_keras.arrays import Features, Scores
from pneumo_keras.config import Config, change_config, find_cache, load_config
from pneumo_keras.data.decoding import DecodedImage, decode_file
from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.listing import IgnoredFiles, list_files
from pneumo_keras.data.pictures import convert_picture
from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import Run, ScoredImage
from pneumo_keras.runs.run import load_run as read_run
from pneumo_keras.runtime.backend import check_backend, import_sklearn, start_backend
from pneumo_keras.storage.documents import to_document
from pneumo_keras.storage.files import make_dated_folder

if TYPE_CHECKING:
    from pneumo_keras.recipes.explain import ExplainedImage, ImageExplainer
    from pneumo_keras.recipes.predict import Scorer

__all__ = ["Images", "OneImage", "Predictions", "TrainedRun", "evaluate", "load_run", "train"]

OneImage = str | Path | Image.Image | np.ndarray
"""A file, a PIL image, or a grey array (size, size)."""

Images = OneImage | Iterable[OneImage]
"""One or several; also a folder, or an array (n, size, size) or (n, size, size, 1)."""


@dataclass(frozen=True)
class Predictions(Sequence[ScoredImage]):
    """The scores of images, in the order in which the images were given.

    A file that cannot be read has the probability NaN, the label None, and the reason as its warning.
    """

    images: tuple[ScoredImage, ...]

    @property
    def probabilities(self) -> Scores:
        """Of pneumonia, in [0, 1]."""
        return np.array([np.nan if one.probability is None else one.probability for one in self.images])

    @property
    def labels(self) -> list[str | None]:
        """Predicted classes: "pneumonia" above the threshold, else "normal"."""
        return [one.prediction for one in self.images]

    @property
    def out_of_distribution(self) -> Bool[np.ndarray, " n"]:
        """Which images are outside the range of the training images."""
        return np.array([one.out_of_distribution for one in self.images], bool)

    @property
    def warnings(self) -> list[str]:
        """Doubts about each score, or why there is none; "" if nothing."""
        return [one.warning for one in self.images]

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> ScoredImage: ...
    @overload
    def __getitem__(self, index: slice) -> "Predictions": ...
    def __getitem__(self, index: int | slice) -> "ScoredImage | Predictions":
        return Predictions(self.images[index]) if isinstance(index, slice) else self.images[index]


class TrainedRun:
    """A finished run that scores and explains images. `load_run` and `train` return one."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._scorers: dict[float | None, Scorer] = {}

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.folder)!r})"

    @property
    def folder(self) -> Path:
        """The folder with the files of the run."""
        return self._run.folder.path

    @property
    def config(self) -> Config:
        """The settings that it was trained with."""
        return self._run.config

    @property
    def threshold(self) -> float:
        """Pneumonia is predicted above this probability: 0.5, or chosen on validation images."""
        return self._run.operating_point.threshold

    @property
    def preparation(self) -> Preparation:
        """How images are prepared: as its training images were."""
        return self._run.preparation

    def metrics(self, split: str = "test") -> dict[str, Any]:
        """The figures of an evaluated split with their intervals: the contents of `metrics_<split>.json`.

        Raises:
            RunError: The split has not been evaluated, or the file is damaged.
        """
        return json.loads(self._run.folder.read_text(f"metrics_{split}.json"))

    def predict(self, images: Images, *, prevalence: float | None = None) -> Predictions:
        """Scores images, prepared as the training images of the run were.

        Files and PIL images may have any size: they are turned upright, made grey, and cut to the square in
        the middle. Arrays must be square and grey: uint8, or floats from 0 (black) to 255 (white).

        Args:
            images: One or several files, PIL images or arrays, or a folder, of which all images are scored.
            prevalence: Of pneumonia among images like these, in (0, 1), to which probabilities and threshold
                are corrected; no label changes. None leaves both as they are.

        Raises:
            DataError: An array is not square, not grey, or has values in another range.
        """
        decoded = list(_decode(images, self.preparation))
        scorer = self._build_scorer(prevalence)
        return Predictions(tuple(scorer.score(decoded)))

    def features(self, images: Images) -> Features:
        """Features (n, d) of images, as the frozen network gives them to the head.

        Raises:
            DataError: As for `predict`; also where a file cannot be read.
        """
        decoded = [_check_read(image) for image in _decode(images, self.preparation)]
        if not decoded:
            raise DataError("There are no images to compute features of.")
        scorer = self._build_scorer(None)
        return np.concatenate([views[0][: len(packet)] for packet, views in scorer.extract(decoded)])

    def explain(self, image: OneImage) -> "ExplainedImage":
        """Scores an image and shows which parts of it raise or lower the log odds of pneumonia.

        Returns:
            The score as `scored`, the map as `explanation.evidence` (size, size), in log odds, and the
            prepared image as `shown`.

        Raises:
            DataError: As for `features`; also where there is not just one.
        """
        decoded = list(_decode(image, self.preparation))
        if len(decoded) != 1:
            raise DataError(f"Images are explained one at a time. Received: {len(decoded)} images")
        return self._explainer.explain(_check_read(decoded[0]))

    @cached_property
    def _explainer(self) -> "ImageExplainer":
        from pneumo_keras.recipes.explain import build_image_explainer

        return build_image_explainer(self._run)

    def _build_scorer(self, prevalence: float | None) -> "Scorer":
        """What scores images, built once for each prevalence."""
        from pneumo_keras.recipes.predict import build_scorer

        if prevalence not in self._scorers:
            self._scorers[prevalence] = build_scorer(self._run, prevalence=prevalence)
        return self._scorers[prevalence]


def load_run(folder: str | Path) -> TrainedRun:
    """Loads a finished run, to score and explain images with it.

    Raises:
        RunError: There is none, or one of its files is missing or damaged.
        BackendError: The backend that `KERAS_BACKEND` names is missing or unknown.
    """
    check_backend("predict")
    return TrainedRun(read_run(Path(folder)))


def train(
    config: str | Path | Config = "default",
    run: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
) -> TrainedRun:
    """Trains a classifier and writes the folder of the run, as `pneumo-keras train` does.

    Args:
        config: The name of a configuration, a TOML file, or the settings of another run.
        run: The folder, which must be new or empty; by default `runs/<config>-<timestamp>`.
        settings: Values by key, such as `{"training.epochs": 5}`, that replace those of the configuration.

    Raises:
        PneumoError: A setting is wrong, the folder is taken, or images or weights cannot be read.
    """
    check_backend("train")
    name = "run" if isinstance(config, Config) else Path(config).stem
    config = config if isinstance(config, Config) else load_config(str(config))
    config = change_config(config, settings or {})
    if config.compute.processes != 1:
        raise SettingsError("Setting 'compute.processes' needs the command line: pneumo-keras train")
    if run is not None:
        RunFolder(Path(run)).check_free()
    start_backend(find_cache())
    from pneumo_keras.recipes.train import train_run

    new = make_dated_folder(Path("runs"), name, option="run") if run is None else nullcontext(Path(run))
    with new as folder:
        train_run(config, RunFolder(folder))
    return load_run(folder)


def evaluate(
    run: TrainedRun | str | Path,
    split: str = "test",
    *,
    prevalence: float | None = None,
    perturb: bool = False,
) -> dict[str, Any]:
    """Evaluates a run and writes scores, figures and a report to its folder, as `pneumo-keras eval` does.

    Args:
        run: A finished run, or its folder.
        split: `train`, `val` or `test`.
        prevalence: Of pneumonia, in (0, 1), to which scores, threshold and figures are corrected.
        perturb: Whether the images are also evaluated perturbed, by kind and severity.

    Returns:
        The figures with their intervals, as in `metrics_<split>.json`.

    Raises:
        PneumoError: The run is damaged, or its images cannot be read or have changed.
    """
    check_backend("eval")
    loaded = read_run(Path(run.folder if isinstance(run, TrainedRun) else run))
    import_sklearn()
    from pneumo_keras.recipes.evaluate import evaluate_run

    evaluation = evaluate_run(loaded, split, prevalence, perturb=perturb)
    return to_document(evaluation)


def _decode(images: Images, preparation: Preparation) -> Iterator[DecodedImage]:
    """The prepared images of whatever a user gives."""
    if isinstance(images, str | Path):
        yield from (decode_file(path, preparation) for path in list_files([str(images)], (), IgnoredFiles()))
    elif isinstance(images, Image.Image):
        yield _prepare(convert_picture(images), preparation)
    elif isinstance(images, np.ndarray):
        yield from (_prepare(Image.fromarray(one), preparation) for one in _to_grey_arrays(images))
    elif isinstance(images, Iterable):
        for one in images:
            yield from _decode(one, preparation)
    else:
        raise DataError(
            f"An image must be a file, a PIL image or an array. Received: {type(images).__name__}"
        )


def _prepare(grey: Image.Image, preparation: Preparation) -> DecodedImage:
    return DecodedImage("", prepare_image(grey, preparation), shape=(grey.height, grey.width))


def _to_grey_arrays(array: np.ndarray) -> np.ndarray:
    """Images (n, size, size), uint8 or float32 from 0 to 255."""
    shape = array.shape
    if array.ndim == 4 and shape[-1] == 1:
        array = array[..., 0]
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1] != array.shape[2] or not array.shape[1]:
        raise DataError(
            "Arrays must be grey and square: (size, size), (n, size, size) or (n, size, size, 1). "
            f"Received: {shape}. PIL images and files may have any shape"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise DataError(f"Arrays must be uint8, or floats from 0 to 255. Received: {array.dtype}")
    if not array.size:
        return array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 255:  # NaN neither
        raise DataError(f"Grey values must be from 0 (black) to 255 (white). Received: {low:g} to {high:g}")
    if 0 < high <= 1:
        raise DataError(
            "Grey values must be from 0 (black) to 255 (white). "
            f"Received: {low:g} to {high:g}. Multiply images from 0 to 1 by 255"
        )
    return array.astype(np.float32)


def _check_read(image: DecodedImage) -> DecodedImage:
    if image.image is None:
        raise DataError(f"{image.path} cannot be scored: {image.reason}")
    return image
