"""The frozen network and what runs it."""

import functools
import logging
import random

import keras

from pneumo_keras.backend import describe_device
from pneumo_keras.config import Config, find_cache
from pneumo_keras.engines.choice import build_network, choose_engine
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.store import Store
from pneumo_keras.model.backbone import build_backbone
from pneumo_keras.model.preprocessing import build_resizing, build_scaling

log = logging.getLogger("pneumo_keras")


def build_frozen(config: Config) -> keras.Model:
    """The frozen network that the settings ask for."""
    model = config.model
    # Keras draws the seeds of a random network from here; its own set_random_seed imports TensorFlow.
    random.seed(config.seed)
    log.info("Building InceptionV3, weights %s, at %d px", model.weights, model.image_size)
    return build_backbone(model.weights, image_size=model.image_size, taps=model.taps)


def build_extractor(config: Config, backbone: keras.Model) -> Extractor:
    """What turns films into features, on the engine that the settings ask for."""
    compute, device = config.compute, describe_device()
    engine, reason = choose_engine(device) if compute.engine == "auto" else (compute.engine, "as set")
    log.info("The frozen network runs on %s (%s), %s, on %s", engine, reason, compute.precision, device)
    image_size = backbone.input_shape[1]
    return Extractor(
        resize=build_resizing(image_size),
        scale=build_scaling(image_size),
        backbone=backbone,
        build_network=functools.partial(build_network, engine=engine, precision=compute.precision),
        about={
            "engine": engine,
            "precision": compute.precision,
            "backend": keras.config.backend(),
            "device": device,
        },
        store=Store(find_cache() / "features", limit=int(config.compute.cache_gigabytes * 1e9)),
    )
