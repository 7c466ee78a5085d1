"""The views that the settings ask for."""

from pneumo_keras.config import Config
from pneumo_keras.config.settings import RangeSettings
from pneumo_keras.features.augmentation import AugmentationRanges
from pneumo_keras.features.views import (
    PLAIN,
    View,
    build_augmented_views,
    build_perturbed_view,
    list_evaluated_views,
)


def to_ranges(settings: RangeSettings) -> AugmentationRanges:
    """How far images are changed at most."""
    return AugmentationRanges(**settings.model_dump(include=set(RangeSettings.model_fields)))


def list_fitted_views(config: Config) -> list[View]:
    """Views of training images; in online mode only for moments and OOD detector."""
    augmentation = config.augmentation
    augmented = build_augmented_views(augmentation.views, to_ranges(augmentation), seed=augmentation.seed)
    return [PLAIN, *augmented] if augmentation.plain else augmented


def list_perturbed_views(config: Config, *, flip_average: bool) -> list[View]:
    """Views of perturbed images, over which log odds are averaged."""
    view = build_perturbed_view(to_ranges(config.perturbation), seed=config.perturbation.seed)
    return list_evaluated_views(flip_average, view)
