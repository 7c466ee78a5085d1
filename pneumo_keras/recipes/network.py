"""What the settings specify: the frozen network and its engine, views, heads, the schedule of a fit."""

import functools
import logging
import random
from collections.abc import Sequence

import keras

from pneumo_keras.cluster.connection import check_cluster
from pneumo_keras.config import Config, find_cache
from pneumo_keras.config.settings import RangeSettings, TrainingSettings
from pneumo_keras.engines.choice import build_runner, choose_engine
from pneumo_keras.engines.runner import Runner
from pneumo_keras.features.augmentation import AugmentationRanges
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.shared import SharedStore
from pneumo_keras.features.store import Store
from pneumo_keras.features.views import (
    PLAIN,
    View,
    build_augmented_views,
    build_perturbed_view,
    list_evaluated_views,
)
from pneumo_keras.model.backbone import build_backbone
from pneumo_keras.model.classifier import FrozenPart, build_frozen_part
from pneumo_keras.model.head import Moments, build_head
from pneumo_keras.recipes.cluster_features import run_on_cluster
from pneumo_keras.runtime.backend import describe_device
from pneumo_keras.runtime.seeds import derive_seeds
from pneumo_keras.training.fit import FitConfig

log = logging.getLogger("pneumo_keras")


def build_frozen(config: Config, feature_layers: Sequence[str] | None = None) -> FrozenPart:
    """The frozen part of a classifier, with other feature layers than those of the settings if given."""
    model = config.model
    # A random network draws its seed from here; Keras' own set_random_seed imports TensorFlow.
    random.seed(config.seed)
    log.info("Building InceptionV3, weights %s, at %d px", model.weights, model.image_size)
    backbone = build_backbone(
        model.weights, image_size=model.image_size, feature_layers=feature_layers or model.feature_layers
    )
    return build_frozen_part(backbone, data_size=config.data.size)


def build_frozen_runner(config: Config, frozen: FrozenPart) -> Runner:
    """The frozen network on its engine."""
    engine = _choose_engine(config, describe_device())
    return build_runner(frozen.backbone, engine=engine, precision=config.compute.precision)


def build_extractor(config: Config, frozen: FrozenPart, *, must_share: bool = True) -> Extractor:
    """Turns images into features on the engine of the settings, with their caches.

    Args:
        config: The settings.
        frozen: Images -> features.
        must_share: Whether a shared store that cannot be read is an error; if not, it is not used.
    """
    compute = config.compute
    if compute.cluster == "ray":
        check_cluster("compute.cluster=ray")
    device = describe_device()
    engine = _choose_engine(config, device)
    return Extractor(
        frozen=frozen,
        build_runner=functools.partial(build_runner, engine=engine, precision=compute.precision),
        about=dict(engine=engine, precision=compute.precision, backend=keras.config.backend(), device=device),
        store=Store(find_cache(), limit=int(compute.cache_gigabytes * 1e9)),
        shared=SharedStore(compute.store, required=must_share) if compute.store else None,
        run_elsewhere=functools.partial(run_on_cluster, engine=engine) if compute.cluster == "ray" else None,
    )


def _choose_engine(config: Config, device: str) -> str:
    compute = config.compute
    engine, reason = choose_engine(compute.engine, compute.precision, device)
    log.info("The frozen network runs on %s (%s), %s, on %s", engine, reason, compute.precision, device)
    return engine


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


def to_fit_config(training: TrainingSettings) -> FitConfig:
    """How the members learn."""
    return FitConfig(
        **training.model_dump(include=set(FitConfig.__dataclass_fields__)),
        learning_rates=[training.learning_rate] * training.members,
        weight_decays=[training.weight_decay] * training.members,
    )


def build_heads(
    config: Config, d: int, moments: tuple[Moments, Moments] | None, seeds: Sequence[int] | None = None
) -> keras.Model:
    """The heads on `d` features, standardised by `moments` if given; see `build_head`.

    Without `seeds`, the members' are derived from that of the run, which the first one has.
    """
    model = config.model
    if seeds is None:
        seeds = [config.seed, *derive_seeds(config.seed, count=config.training.members - 1)]
    return build_head(
        d,
        moments=moments,
        hidden_units=model.hidden_units,
        dropout=model.dropout,
        outputs=model.outputs,
        seeds=seeds,
    )
