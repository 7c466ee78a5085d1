"""All settings: type, range, default and meaning."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pneumo_keras.data.sources import KERMANY, NOBODY, POSITIVE, SOURCES
from pneumo_keras.engines.table import Precision
from pneumo_keras.storage.printable import to_printable

FeatureLayer = Literal[
    "mixed0",
    "mixed1",
    "mixed2",
    "mixed3",
    "mixed4",
    "mixed5",
    "mixed6",
    "mixed7",
    "mixed8",
    "mixed9",
    "mixed10",
]
UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # null, and undecodable bytes as the system gives them
LONGEST_TEXT = 4096  # characters; no path is longer
SMALLEST_IMAGE = 75  # a smaller one is empty after InceptionV3's five halvings
# Limits against mistakes that take memory or days. This is five times the largest prepared images.
LARGEST_IMAGE = 1024
# Hidden units of all members: with all feature layers a kernel of 0.7 GB, and twice that for Adam.
MOST_UNITS = 16_384
MOST_PIXELS = 1 << 25  # of the images of a step through the network: 375 of 299 px, tens of gigabytes
PATTERN_RULE = (
    "Setting 'data.patient_pattern' must be kermany, none or a regular expression with one group, or one "
    "named patient: the patient in the name of a file"
)
MOST_PROCESSES = 1 << 16
ADDRESS = re.compile(r"\S+:[1-9]\d{0,4}")  # of the first process
SECRET = re.compile("://[^/]*:[^/]*@")  # in an address, and settings are written into every run


class Settings(BaseModel):
    """A table of settings: unknown keys are errors, values never change, 1 is not true."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        """Refuses what pydantic accepts: text that no file can hold, and an empty path."""
        if value == "":
            raise PydanticCustomError("empty", "Input should not be empty")
        if isinstance(value, str) and (len(value) > LONGEST_TEXT or UNWRITABLE.search(value)):
            raise PydanticCustomError(
                "text", "Input should be shorter, or without null and undecodable bytes"
            )
        return value


def _check_pattern(pattern: str) -> str:
    """Checks that it can extract a patient from a file's name."""
    if pattern in (KERMANY, NOBODY):
        return pattern
    try:
        rule = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{PATTERN_RULE}. Received: {pattern!r:.200}: {to_printable(str(error))}") from error
    if rule.groups != 1 and "patient" not in rule.groupindex:
        raise ValueError(f"{PATTERN_RULE}. Received: {pattern!r:.200}, with {rule.groups} groups")
    return pattern


def _to_list(value: Any) -> Any:
    """`--set model.feature_layers=mixed4` means a list of one."""
    return [value] if isinstance(value, str) else value


ImageCount = Annotated[int, Field(ge=2, le=100_000)]  # at most what can be drawn in a minute or two
Positive = Annotated[float, Field(gt=0, le=1e6)]
Zoom = Annotated[float, Field(ge=1, le=4, description="largest factor of enlarging or shrinking")]
Aspect = Annotated[float, Field(ge=1, le=4, description="largest factor of one axis against the other")]
Shift = Annotated[float, Field(ge=0, le=1, description="largest shift, as a share of the edge")]
Gamma = Annotated[float, Field(ge=1, le=4, description="largest exponent of grey levels, or its inverse")]
Brightness = Annotated[
    float, Field(ge=0, le=1, description="largest change of brightness, as a share of 0..255")
]
Contrast = Annotated[float, Field(ge=0, lt=1, description="largest change of contrast, as a share")]
Fill = Annotated[
    Literal["black", "mirror", "either"],
    Field(
        description="content of the parts that an image does not cover: black, its mirror image, or one of "
        "the two for each image"
    ),
]


def _check_pixels(setting: str, images: str, pixels: int) -> None:
    if pixels > MOST_PIXELS:
        raise ValueError(
            f"{setting} takes at most {MOST_PIXELS:,} pixels in a step: {images} times the square of "
            f"model.image_size. Received: {pixels:,}. Lower one of them"
        )


class DataSettings(Settings):
    """Which images to train and evaluate on."""

    source: Literal["pneumonia_mnist", "folder", "phantom"] = "pneumonia_mnist"
    """source of the images: PneumoniaMNIST, your folder, or synthetic phantom images"""
    path: Path | None = Field(None, strict=False)
    """path of your own pneumoniamnist.npz, or of the folder or CSV of the source folder"""
    size: Literal[28, 64, 128, 224] = 28
    """edge of the images in pixels"""
    positive: str = POSITIVE
    """name of the class that is pneumonia, for the source folder"""
    patient_pattern: Annotated[str, AfterValidator(_check_pattern)] = KERMANY
    """pattern of the patient in a file's name, for the source folder without a CSV that states it: kermany
    (chest_xray), none or a regular expression with one group, or one named patient"""
    phantom_images: tuple[ImageCount, ImageCount, ImageCount] = Field((640, 160, 400), strict=False)
    """phantom images in train, validation and test"""

    @model_validator(mode="after")
    def _check(self) -> "DataSettings":
        if self.path is not None and not SOURCES[self.source].takes_path:
            raise ValueError(f'data.source="{self.source}" reads no file. Leave data.path unset')
        if self.path is None and SOURCES[self.source].needs_path:
            raise ValueError(f'data.source="{self.source}" needs data.path: a folder of images, or a CSV')
        return self


class RangeSettings(Settings):
    """How far images may vary; see `features.augmentation.AugmentationRanges`."""

    rotation_degrees: float = Field(15.0, ge=0, le=180)
    """largest rotation, either way"""
    horizontal_flip: bool = True
    """mirroring of half of the images"""
    zoom: Zoom = 1.0
    aspect: Aspect = 1.0
    shift: Shift = 0.0
    gamma: Gamma = 1.0
    brightness_factor: float = Field(1.0, ge=1, le=4)
    """largest factor of grey levels, or its inverse"""
    brightness: Brightness = 0.1
    contrast: Contrast = 0.1
    sharpness: float = Field(0.0, ge=0, le=1)
    """largest degree of sharpening or smoothing, like that of other resizing kernels"""
    noise: float = Field(0.0, ge=0, le=1)
    """largest standard deviation of noise, as a share of 0..255"""
    jpeg_quality: int = Field(100, ge=10, le=100)
    """lowest JPEG quality, with which half of the images are saved (up to 95); 100 for no JPEG"""
    fill: Fill = "black"


class AugmentationSettings(RangeSettings):
    """How training images are augmented; evaluated ones are not. See [perturbation]."""

    seed: int = Field(42, ge=0, lt=2**32)
    """seed of the augmentation: runs of all seeds share views, and their cached features"""
    views: int = Field(0, ge=0, le=100)
    """augmented views of each training image (cached mode)"""
    plain: bool = True
    """training images as they are, besides the views (cached mode)"""

    @model_validator(mode="after")
    def _check(self) -> "AugmentationSettings":
        if not self.plain and self.views == 0:
            raise ValueError("augmentation.plain=false needs augmentation.views of at least 1")
        return self


class PerturbationSettings(RangeSettings):
    """How images are perturbed, each once, for sweep and eval --perturb."""

    seed: int = Field(0, ge=0, lt=2**32)
    """seed of the perturbation: runs of all seeds are evaluated on the same images"""
    zoom: Zoom = 1.35
    aspect: Aspect = 1.12
    shift: Shift = 0.09
    gamma: Gamma = 1.42
    brightness: Brightness = 0.12
    contrast: Contrast = 0.3
    fill: Fill = "mirror"


class ModelSettings(Settings):
    """The frozen InceptionV3 and the head behind it."""

    weights: str = "imagenet"
    """weights of the network: imagenet, none (random) or a file"""
    image_size: int = Field(299, ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)
    """edge in pixels to which images are enlarged"""
    feature_layers: Annotated[tuple[FeatureLayer, ...], BeforeValidator(_to_list)] = Field(
        ("mixed10",), strict=False, min_length=1
    )
    """blocks whose outputs are pooled"""
    standardise: bool = True
    """standardisation of features: zero mean, unit variance"""
    hidden_units: int = Field(512, ge=0, le=MOST_UNITS)
    """width of the hidden layer, 0 for none"""
    dropout: float = Field(0.5, ge=0, lt=1)
    """share of units dropped while training"""
    outputs: Literal[1, 2] = 1
    """outputs: one sigmoid or two softmax"""
    flip_average: bool = False
    """average of an image's log odds and its mirror image's"""

    @model_validator(mode="after")
    def _check(self) -> "ModelSettings":
        if len(set(self.feature_layers)) != len(self.feature_layers):
            raise ValueError("model.feature_layers must name each block once")
        return self


class TrainingSettings(Settings):
    """How the head is fitted, and the network fine-tuned."""

    mode: Literal["cached", "online"] = "cached"
    """computation of features: once (cached), or in every epoch (online)"""
    members: int = Field(1, ge=1, le=100)
    """heads of different seeds, fitted at once, averaged"""
    epochs: int = Field(10, ge=1, le=10_000)
    """passes over the training images"""
    batch_size: int = Field(16, ge=1, le=8192)
    """images in a step"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or gradient descent with Nesterov momentum for linear heads"""
    learning_rate: Positive = 1e-4
    """learning rate; about 1 for sgd, 1e-4 for adamw"""
    weight_decay: float = Field(1e-5, ge=0, le=1e6)
    """weight decay; adamw: decoupled; sgd: half of it times the squared weights is added to the loss"""
    schedule: Literal["plateau", "cosine"] = "plateau"
    """schedule of the learning rate: reduced where validation loss stops falling, best epoch kept; or along a
    cosine to 0, last epoch kept"""
    plateau_factor: float = Field(0.2, gt=0, lt=1)
    """factor by which the learning rate is reduced on a plateau"""
    plateau_patience: int = Field(2, ge=1, le=10_000)
    """epochs without a better validation loss before the rate is reduced"""
    unfreeze_from: FeatureLayer | None = None
    """fine-tuning: first block that is trained with the fitted head, up to the last; its inputs are cached,
    up to 1.4 MB for each view of an image at 299 px"""
    unfrozen_learning_rate: Positive = 1e-5
    """fine-tuning: learning rate of head and blocks, always by adamw"""
    unfrozen_batch_size: int = Field(16, ge=1, le=8192)
    """fine-tuning: images in a step"""
    unfrozen_epochs: int = Field(10, ge=1, le=10_000)
    """fine-tuning: passes over the training images, the best of them or none kept"""


class EvaluationSettings(Settings):
    """How scores are calibrated and the operating point is chosen, on validation images."""

    calibration: Literal["none", "temperature", "platt"] = "none"
    """calibration of the log odds: none, a slope, or a slope and an intercept"""
    rule: Literal["fixed", "youden", "sensitivity", "cost"] = "fixed"
    """operating point: a given threshold, Youden's, a sensitivity to reach, or the least cost"""
    threshold: float = Field(0.5, ge=0, le=1)
    """threshold for the rule fixed"""
    sensitivity: float = Field(0.95, gt=0, le=1)
    """sensitivity to reach, for the rule sensitivity"""
    cost_fn: Positive = 1.0
    """cost of a missed pneumonia, for the rule cost"""
    cost_fp: Positive = 1.0
    """cost of a false alarm, for the rule cost"""


class ComputeSettings(Settings):
    """Engine, cache, cluster and processes."""

    engine: Literal["auto", "keras", "jax", "openvino"] = "auto"
    """engine of the frozen network; auto: chosen by device and backend"""
    precision: Precision = "float32"
    """precision of the frozen network"""
    cache_gigabytes: Positive = 20.0
    """limit of cached features, and of prepared images; the least recently used are removed first"""
    cluster: Literal["none", "ray"] = "none"
    """machines: this one, or those of a Ray cluster: RAY_ADDRESS, or one that starts here"""
    store: str | None = None
    """address of shared features: a folder, or a URL such as s3://bucket/features"""
    processes: int = Field(1, ge=0, le=MOST_PROCESSES)
    """processes of a distributed fit in online mode; 0: taken from SLURM, Open MPI or Kubernetes"""
    coordinator: str | None = None
    """address of the first process, host:port, if started by hand"""
    rank: int | None = Field(None, ge=0, lt=MOST_PROCESSES)
    """rank of this process, from 0, if started by hand"""

    @field_validator("store")
    @classmethod
    def _check_store(cls, store: str | None) -> str | None:
        if store and SECRET.search(store):
            raise ValueError("compute.store must hold no password: drivers take theirs from the environment")
        return store

    @model_validator(mode="after")
    def _check(self) -> "ComputeSettings":
        rank, coordinator, processes = self.rank, self.coordinator, self.processes
        if (rank is None) != (coordinator is None) or (rank is not None and processes < 2):
            raise ValueError(
                "compute.coordinator and compute.rank go together, with compute.processes of at least 2"
            )
        if rank is not None and rank >= processes:
            raise ValueError(f"compute.rank must be below compute.processes, {processes}. Received: {rank}")
        if coordinator is not None and not ADDRESS.fullmatch(coordinator):
            shown = repr(coordinator)[:200]
            raise ValueError(f"compute.coordinator must look like 10.0.0.1:7777. Received: {shown}")
        return self


class Config(Settings):
    """Every setting of a run."""

    seed: int = Field(42, ge=0, lt=2**32)
    """seed of everything random"""
    data: DataSettings = DataSettings.model_validate({})
    augmentation: AugmentationSettings = AugmentationSettings.model_validate({})
    perturbation: PerturbationSettings = PerturbationSettings.model_validate({})
    model: ModelSettings = ModelSettings.model_validate({})
    training: TrainingSettings = TrainingSettings.model_validate({})
    evaluation: EvaluationSettings = EvaluationSettings.model_validate({})
    compute: ComputeSettings = ComputeSettings.model_validate({})

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if self.training.mode == "online" and self.augmentation.views:
            raise ValueError('augmentation.views needs training.mode="cached"')
        units = self.training.members * self.model.hidden_units
        if units > MOST_UNITS:
            raise ValueError(
                f"training.members times model.hidden_units must be at most {MOST_UNITS:,}, for the sake of "
                f"memory. Received: {units:,}"
            )
        self._check_unfreezing()
        processes = self.compute.processes
        if self.training.mode == "cached" and processes != 1:
            raise ValueError(
                'compute.processes needs training.mode="online": cached mode fits a head in seconds on one '
                f"device. Received: {processes}"
            )
        if self.training.mode == "online":
            pixels = self.training.batch_size * self.model.image_size**2 // (processes or MOST_PROCESSES)
            _check_pixels('training.mode="online"', "training.batch_size", pixels)
        if self.training.optimizer == "sgd" and (self.model.hidden_units or not self.model.standardise):
            raise ValueError(
                'training.optimizer="sgd" needs linear heads on standardised features: model.hidden_units=0 '
                "and model.standardise=true"
            )
        return self

    def _check_unfreezing(self) -> None:
        training, order = self.training, get_args(FeatureLayer)
        if training.unfreeze_from is None:
            return
        if training.mode == "online" or training.members > 1:
            raise ValueError(
                'training.unfreeze_from needs training.mode="cached" and training.members=1. Received: '
                f"{training.mode}, {training.members}. Leave it unset, or change them"
            )
        highest = max(self.model.feature_layers, key=order.index)
        if order.index(training.unfreeze_from) > order.index(highest):
            raise ValueError(
                "training.unfreeze_from must not be above the highest of model.feature_layers, which is "
                f"{highest}. Received: {training.unfreeze_from}"
            )
        pixels = training.unfrozen_batch_size * self.model.image_size**2
        _check_pixels("training.unfreeze_from", "training.unfrozen_batch_size", pixels)
