"""What the settings say, as the stages below take it: views, heads and how they are fitted."""

from collections.abc import Sequence

import keras

from pneumo_keras.config import Config
from pneumo_keras.config.settings import RangeSettings, TrainingSettings
from pneumo_keras.features.augmentation import AugmentationRanges
from pneumo_keras.features.views import (
    PLAIN,
    View,
    build_augmented_views,
    build_perturbed_view,
    list_evaluated_views,
)
from pneumo_keras.model.head import Moments, build_head
from pneumo_keras.runtime.seeds import derive_seeds
from pneumo_keras.training.fit import FitConfig


def to_ranges(settings: RangeSettings) -> AugmentationRanges:
    """How far images may be changed."""
    return AugmentationRanges(**settings.model_dump(include=set(RangeSettings.model_fields)))


def list_fitted_views(config: Config) -> list[View]:
    """How images are seen that are trained on: in online mode, for moments and OOD detector alone."""
    augmentation = config.augmentation
    augmented = build_augmented_views(augmentation.views, to_ranges(augmentation), seed=augmentation.seed)
    return [PLAIN, *augmented] if augmentation.plain else augmented


def list_perturbed_views(config: Config, *, flip_average: bool) -> list[View]:
    """How images are seen that heads are tried on."""
    view = build_perturbed_view(to_ranges(config.perturbation), seed=config.perturbation.seed)
    return list_evaluated_views(flip_average, view)


def to_fit_config(training: TrainingSettings) -> FitConfig:
    """How the members learn by the settings."""
    return FitConfig(
        **training.model_dump(include=set(FitConfig.__dataclass_fields__)),
        learning_rates=[training.learning_rate] * training.members,
        weight_decays=[training.weight_decay] * training.members,
    )


def build_heads(
    config: Config, d: int, moments: tuple[Moments, Moments] | None, seeds: Sequence[int] | None = None
) -> keras.Model:
    """The heads that the settings ask for; see `build_head`.

    Args:
        config: The settings.
        d: Number of features.
        moments: Mean and variance to standardise by; None leaves features as they are.
        seeds: Of the members; those that the settings say if nothing is given.
    """
    model, training = config.model, config.training
    if seeds is None:  # one head alone has the run's
        seeds = [config.seed, *derive_seeds(config.seed, count=training.members - 1)]
    return build_head(
        d,
        moments=moments,
        hidden_units=model.hidden_units,
        dropout=model.dropout,
        outputs=model.outputs,
        seeds=seeds,
    )
