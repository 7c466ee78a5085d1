"""The frozen network of a finished run on its engine, without Keras where it can be, and its features."""

import functools
from collections.abc import Sequence
from typing import Any

from pneumo_keras import BACKEND
from pneumo_keras.cluster.connection import check_cluster
from pneumo_keras.config import Config, find_cache
from pneumo_keras.config.settings import ComputeSettings
from pneumo_keras.engines.choice import choose_engine
from pneumo_keras.engines.openvino import build_onnx_runner
from pneumo_keras.engines.runner import Runner
from pneumo_keras.engines.table import Precision
from pneumo_keras.features.extract import Extractor, FrozenNetwork
from pneumo_keras.features.shared import SharedStore
from pneumo_keras.features.store import Store
from pneumo_keras.model.inference import POOLED
from pneumo_keras.recipes.cluster_features import run_on_cluster
from pneumo_keras.runs.run import Run
from pneumo_keras.runtime.backend import check_memory, describe_device, may_accelerate, start_backend


def choose_computing(compute: ComputeSettings) -> dict[str, Any]:
    """What computes features, and what these depend on besides network and images."""
    device = describe_device()
    engine = choose_engine(compute.engine, compute.precision, device)
    return {"engine": engine, "precision": compute.precision, "backend": BACKEND, "device": device}


def open_network(run: Run, compute: ComputeSettings) -> FrozenNetwork:
    """The frozen network of a finished run: its ONNX file on OpenVINO, the saved model on other engines.

    Keras starts only for the latter, or to look for an accelerator.
    """
    check_memory("the frozen network")
    if may_accelerate():
        start_backend(find_cache())
    about = choose_computing(compute)
    if about["engine"] != "openvino":
        start_backend(find_cache())
        from pneumo_keras.recipes.network import build_network

        return build_network(run.classifier.frozen.backbone, about)
    build = functools.partial(_run_onnx, run.network.read_bytes(), compute.precision)
    return FrozenNetwork(
        image_size=run.config.model.image_size,
        layers=run.feature_layers,
        build_runner=build,
        build_map_runner=functools.partial(build, list(run.feature_layers), maps=True),
        about=about,
    )


def _run_onnx(network: bytes, precision: Precision, layers: Sequence[str], *, maps: bool = False) -> Runner:
    pooled = [f"{layer}{POOLED}" for layer in layers]
    return build_onnx_runner(network, precision=precision, layers=pooled, maps=maps)


def build_extractor(config: Config, network: FrozenNetwork, *, must_share: bool = True) -> Extractor:
    """Turns images into features on the engine of the settings, with their caches.

    Args:
        config: The settings.
        network: Images -> features.
        must_share: Whether a shared store that cannot be read is an error; if not, it is not used.
    """
    compute = config.compute
    if compute.cluster == "ray":
        check_cluster("compute.cluster=ray")
    on_cluster = functools.partial(run_on_cluster, engine=network.about["engine"])
    return Extractor(
        network=network,
        store=Store(find_cache(), limit=int(compute.cache_gigabytes * 1e9)),
        shared=SharedStore(compute.store, required=must_share) if compute.store else None,
        run_elsewhere=on_cluster if compute.cluster == "ray" else None,
    )
