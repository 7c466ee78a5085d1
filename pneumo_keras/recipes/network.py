"""The frozen part of a classifier, and what turns images into its features."""

import functools
import logging
import random
from collections.abc import Sequence

import keras

from pneumo_keras.cluster.connection import check_cluster
from pneumo_keras.config import Config, find_cache
from pneumo_keras.engines.choice import build_runner, choose_engine
from pneumo_keras.engines.runner import Runner
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.shared import SharedStore
from pneumo_keras.features.store import Store
from pneumo_keras.model.backbone import build_backbone
from pneumo_keras.model.classifier import FrozenPart, build_frozen_part
from pneumo_keras.recipes.cluster_features import run_on_cluster
from pneumo_keras.runtime.backend import describe_device

log = logging.getLogger("pneumo_keras")


def build_frozen(config: Config, feature_layers: Sequence[str] | None = None) -> FrozenPart:
    """The frozen part that the settings ask for, with other feature layers if any are given."""
    model = config.model
    # A random network draws its seed from here; Keras' own set_random_seed imports TensorFlow.
    random.seed(config.seed)
    log.info("Building InceptionV3, weights %s, at %d px", model.weights, model.image_size)
    backbone = build_backbone(
        model.weights, image_size=model.image_size, feature_layers=feature_layers or model.feature_layers
    )
    return build_frozen_part(backbone, data_size=config.data.size)


def build_frozen_runner(config: Config, frozen: FrozenPart) -> Runner:
    """The frozen network on the engine that the settings ask for."""
    engine = _choose_engine(config, describe_device())
    return build_runner(frozen.backbone, engine=engine, precision=config.compute.precision)


def build_extractor(config: Config, frozen: FrozenPart, *, must_share: bool = True) -> Extractor:
    """What turns images into features, on the engine that the settings ask for.

    Args:
        config: The settings.
        frozen: Images -> features.
        must_share: Whether a shared store that cannot be read ends the job, as where the user has just named
            it. Otherwise it is done without.
    """
    if config.compute.cluster == "ray":
        check_cluster("compute.cluster=ray")
    precision, device = config.compute.precision, describe_device()
    engine = _choose_engine(config, device)
    return Extractor(
        frozen=frozen,
        build_runner=functools.partial(build_runner, engine=engine, precision=precision),
        about=dict(engine=engine, precision=precision, backend=keras.config.backend(), device=device),
        store=Store(find_cache(), limit=int(config.compute.cache_gigabytes * 1e9)),
        shared=SharedStore(config.compute.store, must_answer=must_share) if config.compute.store else None,
        run_elsewhere=(
            functools.partial(run_on_cluster, engine=engine) if config.compute.cluster == "ray" else None
        ),
    )


def _choose_engine(config: Config, device: str) -> str:
    compute = config.compute
    engine, reason = choose_engine(compute.engine, compute.precision, device)
    log.info("The frozen network runs on %s (%s), %s, on %s", engine, reason, compute.precision, device)
    return engine
