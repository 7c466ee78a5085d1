"""What the settings specify: the frozen network and its engine, views, heads, the schedule of a fit."""

import functools
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from pneumo_keras.config import Config
from pneumo_keras.config.settings import TrainingSettings
from pneumo_keras.engines.choice import build_runner
from pneumo_keras.engines.runner import Runner
from pneumo_keras.features.extract import FrozenNetwork
from pneumo_keras.model.backbone import build_backbone, build_map_network, select_feature_layers
from pneumo_keras.model.classifier import FrozenPart, build_frozen_part
from pneumo_keras.model.fingerprint import describe_feature_layers
from pneumo_keras.model.head import build_head
from pneumo_keras.model.inference import Moments
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


def build_network(backbone: keras.Model, about: Mapping[str, Any]) -> FrozenNetwork:
    """A backbone on an engine; `about` is what `choose_computing` gives."""
    options = {name: about[name] for name in ("engine", "precision")}
    return FrozenNetwork(
        image_size=backbone.input_shape[1],
        layers=describe_feature_layers(backbone),
        build_runner=functools.partial(_run_feature_layers, backbone, options),
        build_map_runner=functools.partial(_run_maps, backbone, options),
        about=about,
    )


def _run_feature_layers(backbone: keras.Model, options: dict[str, Any], layers: Sequence[str]) -> Runner:
    return build_runner(select_feature_layers(backbone, layers), **options)


def _run_maps(backbone: keras.Model, options: dict[str, Any]) -> Runner:
    return build_runner(build_map_network(backbone), **options)


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
