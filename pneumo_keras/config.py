"""Settings: TOML files, checked by pydantic, with overrides from the command line."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pneumo_keras.errors import SettingsError

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Tap = Literal[
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
SMALLEST_IMAGE = 75  # InceptionV3's five halvings leave nothing of a smaller one


def _to_absolute(path: Path) -> Path:
    """So that a run finds its files from any working folder."""
    return path.expanduser().resolve()


def _to_absolute_weights(weights: str) -> str:
    return weights if weights in ("imagenet", "none") else str(_to_absolute(Path(weights)))


class Settings(BaseModel):
    """A table of settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSettings(Settings):
    """Which films to train and judge on."""

    source: Literal["pneumonia_mnist", "phantom"] = Field(
        "pneumonia_mnist", description="PneumoniaMNIST, or synthetic phantom films"
    )
    path: Annotated[Path, AfterValidator(_to_absolute)] | None = Field(
        None, description="your own copy of pneumoniamnist.npz"
    )
    size: Literal[28, 64, 128, 224] = Field(28, description="edge of the films in pixels")
    phantom_films: tuple[int, int, int] = Field(
        (640, 160, 400), description="phantom films in train, validation and test"
    )

    @model_validator(mode="after")
    def _check(self) -> "DataSettings":
        if min(self.phantom_films) < 2:
            raise ValueError("data.phantom_films must be at least 2 films for every split")
        if self.source == "phantom" and self.path is not None:
            raise ValueError('data.path needs data.source="pneumonia_mnist"')
        return self


class AugmentationSettings(Settings):
    """How training films are varied. Validation and test films never are."""

    rotation_degrees: float = Field(15.0, ge=0, le=180, description="rotated by up to this")
    horizontal_flip: bool = Field(True, description="mirrored half of the time")
    brightness: float = Field(0.1, ge=0, le=1, description="shifted by up to this share of 0..255")
    contrast: float = Field(0.1, ge=0, lt=1, description="stretched by up to this share")
    views: int = Field(0, ge=0, description="augmented views of each training film (cached mode)")
    plain: bool = Field(True, description="train on the films as they are, too (cached mode)")

    @model_validator(mode="after")
    def _check(self) -> "AugmentationSettings":
        if not self.plain and self.views == 0:
            raise ValueError("augmentation.plain=false needs augmentation.views of at least 1")
        return self


class ModelSettings(Settings):
    """The frozen InceptionV3 and the head behind it."""

    weights: Annotated[str, AfterValidator(_to_absolute_weights)] = Field(
        "imagenet", description='"imagenet", "none" (random) or a weights file'
    )
    image_size: int = Field(299, ge=SMALLEST_IMAGE, description="edge in pixels to which films are enlarged")
    taps: tuple[Tap, ...] = Field(("mixed10",), description="blocks whose outputs are pooled")
    standardise: bool = Field(True, description="features to zero mean, unit variance")
    hidden_units: int = Field(512, ge=0, description="width of the hidden layer, 0 for none")
    dropout: Share = Field(0.5, description="share of units dropped while training")
    outputs: Literal[1, 2] = Field(1, description="one sigmoid output or two softmax outputs")
    flip_average: bool = Field(False, description="average a film's log odds with its mirror image's")

    @model_validator(mode="after")
    def _check(self) -> "ModelSettings":
        if not self.taps or len(set(self.taps)) != len(self.taps):
            raise ValueError("model.taps must name each block once, and at least one")
        return self


class TrainingSettings(Settings):
    """How the head is fitted."""

    mode: Literal["cached", "online"] = Field(
        "cached", description="features once and for all, or the whole model in every epoch"
    )
    members: int = Field(1, ge=1, le=100, description="heads of different seeds, fitted at once, averaged")
    epochs: int = Field(10, ge=1, description="passes over the training films")
    batch_size: int = Field(16, ge=1, description="films in a step")
    learning_rate: Positive = Field(1e-4, description="of AdamW")
    weight_decay: float = Field(1e-5, ge=0, description="of AdamW, decoupled")
    plateau_factor: float = Field(0.2, gt=0, lt=1, description="learning rate times this ...")
    plateau_patience: int = Field(
        2, ge=1, description="... after this many epochs without a better validation loss"
    )


class EvaluationSettings(Settings):
    """How scores are calibrated and the operating point is chosen, on validation films."""

    calibration: Literal["none", "temperature", "platt"] = Field(
        "none", description="of the log odds: left alone, a slope, or a slope and an intercept"
    )
    rule: Literal["fixed", "youden", "sensitivity", "cost"] = Field(
        "fixed", description="a given threshold, Youden's, a sensitivity to reach, or the least cost"
    )
    threshold: float = Field(0.5, ge=0, le=1, description='for the rule "fixed"')
    sensitivity: float = Field(0.95, gt=0, le=1, description='for the rule "sensitivity"')
    cost_fn: Positive = Field(1.0, description='of a missed pneumonia, for the rule "cost"')
    cost_fp: Positive = Field(1.0, description='of a false alarm, for the rule "cost"')


class ComputeSettings(Settings):
    """How the frozen network is run."""

    engine: Literal["auto", "keras", "jax", "openvino"] = Field(
        "auto", description="what runs the frozen network; auto is the fastest installed"
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the frozen network")
    cache_gigabytes: Positive = Field(20.0, description="of features kept; the oldest go first")


class Config(Settings):
    """Every setting of a run."""

    seed: int = Field(42, ge=0, lt=2**32, description="of everything random")
    data: DataSettings = Field(default_factory=lambda: DataSettings.model_validate({}))
    augmentation: AugmentationSettings = Field(
        default_factory=lambda: AugmentationSettings.model_validate({})
    )
    model: ModelSettings = Field(default_factory=lambda: ModelSettings.model_validate({}))
    training: TrainingSettings = Field(default_factory=lambda: TrainingSettings.model_validate({}))
    evaluation: EvaluationSettings = Field(default_factory=lambda: EvaluationSettings.model_validate({}))
    compute: ComputeSettings = Field(default_factory=lambda: ComputeSettings.model_validate({}))

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if self.training.mode == "online" and self.augmentation.views:
            raise ValueError('augmentation.views needs training.mode="cached"')
        return self


def find_named(folder: str) -> dict[str, Path]:
    """The TOML files that come with the package, by name.

    Args:
        folder: `configs`, or `configs/grids`.
    """
    package = Path(__file__).parent
    # In a wheel they lie inside the package, in a checkout beside it.
    here = next((root / folder for root in (package, package.parent) if (root / folder).is_dir()), None)
    return {path.stem: path for path in sorted(here.glob("*.toml"))} if here else {}


def find_toml(name_or_path: str, *, folder: str, option: str) -> Path:
    """The file of that name which comes with the package, or the path itself.

    Args:
        name_or_path: As a user gave it.
        folder: Of the named files.
        option: For which it was given.

    Raises:
        SettingsError: There is neither such a name nor such a file.
    """
    named = find_named(folder)
    if name_or_path in named:
        return named[name_or_path]
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = ", ".join(named)
    raise SettingsError(f"{option} must be one of {known}, or a TOML file. Received: {name_or_path}")


def load_toml(path: Path) -> dict[str, Any]:
    """The tree of a TOML file.

    Raises:
        SettingsError: It is none.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML file: {error}") from error


def load_config(name_or_path: str, overrides: Iterable[str] = ()) -> Config:
    """Reads a configuration and applies `KEY=VALUE` overrides.

    Relative paths inside a file count from the working folder, like those of the command line.

    Raises:
        SettingsError: The file cannot be read, or a setting is unknown, ill-typed or out of range.
    """
    tree = load_toml(find_toml(name_or_path, folder="configs", option="--config"))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"--set must look like training.epochs=3. Received: {override}")
        _put(tree, key, _parse_value(text))
    return _check_tree(tree)


def change_config(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with other values for some of its settings.

    Args:
        config: Stays as it is.
        changes: Values by dotted key: `{"training.epochs": 3}`.

    Raises:
        SettingsError: A setting is unknown, ill-typed or out of range.
    """
    tree = config.model_dump(mode="json", exclude_none=True)
    for key, value in changes.items():
        _put(tree, key, value)
    return _check_tree(tree)


def format_config(config: Config) -> str:
    """The settings as TOML; unset ones are left out."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def find_cache() -> Path:
    """Where features and prepared data sets are kept: `PNEUMO_KERAS_CACHE`, or the user's cache."""
    named = os.environ.get("PNEUMO_KERAS_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("pneumo-keras"))


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *tables, name = key.split(".")
    if key not in list_keys(Config):
        raise SettingsError(_to_unknown_key(key))
    for table in tables:
        tree = tree.setdefault(table, {})
    tree[name] = value


def _check_tree(tree: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_to_one_line(error)) from error


def _parse_value(text: str) -> Any:
    """TOML where it is TOML (`3`, `true`, `["mixed4"]`), a bare string otherwise."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _to_one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    if first["type"] == "extra_forbidden":
        return _to_unknown_key(key)
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    rule = first["msg"].removeprefix("Input ")
    return f"Setting '{key}' {rule}. Received: {first['input']!r}"


def _to_unknown_key(key: str) -> str:
    near = difflib.get_close_matches(key, list_keys(Config), n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else " See: pneumo-keras config show default"
    return f"Unknown setting '{key}'.{hint}"


def list_keys(settings: type[BaseModel], prefix: str = "") -> list[str]:
    """All tables and keys, dotted: `training`, `training.epochs`."""
    keys: list[str] = []
    for name, field in settings.model_fields.items():
        keys.append(prefix + name)
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel):
            keys += list_keys(table, f"{prefix}{name}.")
    return keys
