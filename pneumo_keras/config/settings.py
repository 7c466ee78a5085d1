"""Every setting there is: its type, its range, its default and what it means."""

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
UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # null, and bytes that are no text as the system gives them
LONGEST_TEXT = 4096  # characters; no path is longer
SMALLEST_IMAGE = 75  # InceptionV3's five halvings leave nothing of a smaller one
# What may be asked for without taking memory or days by mistake. Five times the largest images that are kept.
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
        """Pydantic takes text that no file can hold, and no path for the working folder."""
        if value == "":
            raise PydanticCustomError("empty", "Input should not be empty")
        if isinstance(value, str) and (len(value) > LONGEST_TEXT or UNWRITABLE.search(value)):
            raise PydanticCustomError(
                "text", "Input should be shorter, or without null and undecodable bytes"
            )
        return value


def _check_pattern(pattern: str) -> str:
    """Whether it can say whose image a file is."""
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


ImageCount = Annotated[int, Field(ge=2, le=100_000)]  # what a minute or two can draw
Positive = Annotated[float, Field(gt=0, le=1e6)]
Zoom = Annotated[float, Field(ge=1, le=4, description="enlarged or shrunk by up to this factor")]
Aspect = Annotated[float, Field(ge=1, le=4, description="one axis against the other, by up to this factor")]
Shift = Annotated[float, Field(ge=0, le=1, description="moved by up to this share of the edge")]
Gamma = Annotated[
    float, Field(ge=1, le=4, description="grey levels to the power of up to this or its inverse")
]
Brightness = Annotated[float, Field(ge=0, le=1, description="shifted by up to this share of 0..255")]
Contrast = Annotated[float, Field(ge=0, lt=1, description="stretched by up to this share")]
Fill = Annotated[
    Literal["black", "mirror", "either"],
    Field(
        description="what fills the parts that an image does not cover: black, its mirror image, or one of "
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
    """PneumoniaMNIST, a folder of your images, or synthetic phantom images"""
    path: Path | None = Field(None, strict=False)
    """your own copy of pneumoniamnist.npz, or the folder or CSV of the source folder"""
    size: Literal[28, 64, 128, 224] = 28
    """edge of the images in pixels"""
    positive: str = POSITIVE
    """name of the class that is pneumonia, for the source folder"""
    patient_pattern: Annotated[str, AfterValidator(_check_pattern)] = KERMANY
    """what finds the patient in a file's name, for the source folder where no CSV says it: kermany
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
    """turned by up to this, either way"""
    horizontal_flip: bool = True
    """mirrored half of the time"""
    zoom: Zoom = 1.0
    aspect: Aspect = 1.0
    shift: Shift = 0.0
    gamma: Gamma = 1.0
    brightness_factor: float = Field(1.0, ge=1, le=4)
    """grey levels times up to this or its inverse"""
    brightness: Brightness = 0.1
    contrast: Contrast = 0.1
    sharpness: float = Field(0.0, ge=0, le=1)
    """sharpened or smoothed by up to this share, as other resizing kernels do"""
    noise: float = Field(0.0, ge=0, le=1)
    """standard deviation of up to this share of 0..255"""
    jpeg_quality: int = Field(100, ge=10, le=100)
    """saved as JPEG half of the time, of this quality to 95; 100 for never"""
    fill: Fill = "black"


class AugmentationSettings(RangeSettings):
    """How images are augmented that are trained on; what is evaluated is not. See [perturbation]."""

    seed: int = Field(42, ge=0, lt=2**32)
    """of the random augmentation: runs of all seeds share views, and their cached features"""
    views: int = Field(0, ge=0, le=100)
    """augmented views of each training image (cached mode)"""
    plain: bool = True
    """train on the images as they are, too (cached mode)"""

    @model_validator(mode="after")
    def _check(self) -> "AugmentationSettings":
        if not self.plain and self.views == 0:
            raise ValueError("augmentation.plain=false needs augmentation.views of at least 1")
        return self


class PerturbationSettings(RangeSettings):
    """How images are perturbed, each once, for sweep and eval --perturb."""

    seed: int = Field(0, ge=0, lt=2**32)
    """of the random perturbation: runs of all seeds are evaluated on the same images"""
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
    """imagenet, none (random) or a weights file"""
    image_size: int = Field(299, ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)
    """edge in pixels to which images are enlarged"""
    feature_layers: Annotated[tuple[FeatureLayer, ...], BeforeValidator(_to_list)] = Field(
        ("mixed10",), strict=False, min_length=1
    )
    """blocks whose outputs are pooled"""
    standardise: bool = True
    """features to zero mean, unit variance"""
    hidden_units: int = Field(512, ge=0, le=MOST_UNITS)
    """width of the hidden layer, 0 for none"""
    dropout: float = Field(0.5, ge=0, lt=1)
    """share of units dropped while training"""
    outputs: Literal[1, 2] = 1
    """one sigmoid output or two softmax outputs"""
    flip_average: bool = False
    """average an image's log odds with its mirror image's"""

    @model_validator(mode="after")
    def _check(self) -> "ModelSettings":
        if len(set(self.feature_layers)) != len(self.feature_layers):
            raise ValueError("model.feature_layers must name each block once")
        return self


class TrainingSettings(Settings):
    """How the head is fitted."""

    mode: Literal["cached", "online"] = "cached"
    """features once and for all, or the whole model in every epoch"""
    members: int = Field(1, ge=1, le=100)
    """heads of different seeds, fitted at once, averaged"""
    epochs: int = Field(10, ge=1, le=10_000)
    """passes over the training images"""
    batch_size: int = Field(16, ge=1, le=8192)
    """images in a step"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or gradient descent with Nesterov momentum for linear heads"""
    learning_rate: Positive = 1e-4
    """of the optimizer; about 1 for sgd, 1e-4 for adamw"""
    weight_decay: float = Field(1e-5, ge=0, le=1e6)
    """adamw: decoupled; sgd: half of it times the squared weights joins the loss"""
    schedule: Literal["plateau", "cosine"] = "plateau"
    """lower learning rate where validation loss stops falling, best epoch kept; or along a cosine to 0, last
    epoch kept"""
    plateau_factor: float = Field(0.2, gt=0, lt=1)
    """on a plateau, learning rate times this ..."""
    plateau_patience: int = Field(2, ge=1, le=10_000)
    """... after this many epochs without a better validation loss"""
    unfreeze_from: FeatureLayer | None = None
    """once the head is fitted, this block of the network and all above it learn, too; what enters it is
    cached, up to 1.4 MB for each view of an image at 299 px"""
    unfrozen_learning_rate: Positive = 1e-5
    """of head and blocks then, always by adamw"""
    unfrozen_batch_size: int = Field(16, ge=1, le=8192)
    """images in a step then"""
    unfrozen_epochs: int = Field(10, ge=1, le=10_000)
    """passes over the training images then, the best of them or none kept"""


class EvaluationSettings(Settings):
    """How scores are calibrated and the operating point is chosen, on validation images."""

    calibration: Literal["none", "temperature", "platt"] = "none"
    """of the log odds: left alone, a slope, or a slope and an intercept"""
    rule: Literal["fixed", "youden", "sensitivity", "cost"] = "fixed"
    """a given threshold, Youden's, a sensitivity to reach, or the least cost"""
    threshold: float = Field(0.5, ge=0, le=1)
    """for the rule fixed"""
    sensitivity: float = Field(0.95, gt=0, le=1)
    """for the rule sensitivity"""
    cost_fn: Positive = 1.0
    """of a missed pneumonia, for the rule cost"""
    cost_fp: Positive = 1.0
    """of a false alarm, for the rule cost"""


class ComputeSettings(Settings):
    """How the frozen network is run."""

    engine: Literal["auto", "keras", "jax", "openvino"] = "auto"
    """what runs the frozen network; auto is the fastest installed"""
    precision: Precision = "float32"
    """of the frozen network"""
    cache_gigabytes: Positive = 20.0
    """of features kept, and of prepared images; the oldest go first"""
    cluster: Literal["none", "ray"] = "none"
    """this machine, or those of a Ray cluster: RAY_ADDRESS, or one that starts here"""
    store: str | None = None
    """where machines share features: a folder, or an address such as s3://bucket/features"""
    processes: int = Field(1, ge=0, le=MOST_PROCESSES)
    """that fit together in online mode; 0 for as many as SLURM, Open MPI or Kubernetes say"""
    coordinator: str | None = None
    """host:port of the first process, if started by hand"""
    rank: int | None = Field(None, ge=0, lt=MOST_PROCESSES)
    """of this process from 0, if started by hand"""

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
    """of everything random"""
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
