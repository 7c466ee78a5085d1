"""Settings of how far images vary: augmentation in training, perturbation in evaluation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pneumo_keras.config.tables import Settings

Zoom = Annotated[float, Field(ge=1, le=4, description="enlarged or shrunk by up to this factor")]
Aspect = Annotated[float, Field(ge=1, le=4, description="one axis against the other, by up to this factor")]
Shift = Annotated[float, Field(ge=0, le=1, description="moved by up to this share of the edge")]
Gamma = Annotated[
    float, Field(ge=1, le=4, description="grey levels to the power of up to this or its inverse")
]
Brightness = Annotated[float, Field(ge=0, le=1, description="shifted by up to this share of 0..255")]
BrightnessFactor = Annotated[
    float, Field(ge=1, le=4, description="grey levels times up to this or its inverse")
]
Contrast = Annotated[float, Field(ge=0, lt=1, description="stretched by up to this share")]
Sharpness = Annotated[
    float,
    Field(ge=0, le=1, description="sharpened or smoothed by up to this share, as other resizing kernels do"),
]
Noise = Annotated[float, Field(ge=0, le=1, description="standard deviation of up to this share of 0..255")]
JpegQuality = Annotated[
    int,
    Field(ge=10, le=100, description="saved as JPEG half of the time, of this quality to 95; 100 for never"),
]
FILL = (
    "what stands where an image does not reach: nothing, its mirror image, or one of the two for each image"
)
Fill = Annotated[Literal["black", "mirror", "either"], Field(description=FILL)]


class RangeSettings(Settings):
    """How far images may vary; see `features.augmentation.AugmentationRanges`."""

    rotation_degrees: float = Field(15.0, ge=0, le=180, description="turned by up to this, either way")
    horizontal_flip: bool = Field(True, description="mirrored half of the time")
    zoom: Zoom = 1.0
    aspect: Aspect = 1.0
    shift: Shift = 0.0
    gamma: Gamma = 1.0
    brightness_factor: BrightnessFactor = 1.0
    brightness: Brightness = 0.1
    contrast: Contrast = 0.1
    sharpness: Sharpness = 0.0
    noise: Noise = 0.0
    jpeg_quality: JpegQuality = 100
    fill: Fill = "black"


class AugmentationSettings(RangeSettings):
    """How images are varied that are trained on. Those that are evaluated on are not; see [perturbation]."""

    seed: int = Field(
        42,
        ge=0,
        lt=2**32,
        description="of the draws: runs of all seeds share views, and their cached features",
    )
    views: int = Field(0, ge=0, le=100, description="augmented views of each training image (cached mode)")
    plain: bool = Field(True, description="train on the images as they are, too (cached mode)")

    @model_validator(mode="after")
    def _check(self) -> "AugmentationSettings":
        if not self.plain and self.views == 0:
            raise ValueError("augmentation.plain=false needs augmentation.views of at least 1")
        return self


class PerturbationSettings(RangeSettings):
    """How images are varied on which heads are tried: each once, for sweep and eval --perturb."""

    seed: int = Field(0, ge=0, lt=2**32, description="of the draws; runs of all seeds are tried alike")
    zoom: Zoom = 1.35
    aspect: Aspect = 1.12
    shift: Shift = 0.09
    gamma: Gamma = 1.42
    brightness: Brightness = 0.12
    contrast: Contrast = 0.3
    fill: Fill = "mirror"
