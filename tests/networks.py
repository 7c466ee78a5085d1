"""Toy backbones as frozen networks that extractors take."""

import functools

from pneumo_keras.engines.choice import build_runner
from pneumo_keras.features.extract import FrozenNetwork
from pneumo_keras.model.backbone import build_map_network, select_feature_layers
from pneumo_keras.model.fingerprint import describe_feature_layers

KERAS = functools.partial(build_runner, engine="keras", precision="float32")


def _run_layers(backbone, build, layers):
    return build(select_feature_layers(backbone, layers))


def _run_maps(backbone, build):
    return build(build_map_network(backbone))


def build_network(backbone, build=KERAS, **about):
    """`build` makes a backbone run over batches."""
    return FrozenNetwork(
        backbone.input_shape[1],
        describe_feature_layers(backbone),
        functools.partial(_run_layers, backbone, build),
        functools.partial(_run_maps, backbone, build),
        {"engine": "keras", **about},
    )
