"""Measures the engines of this machine."""

from pneumo_keras.bench.engines import Bench, build_images, measure_engines, measure_product_rate
from pneumo_keras.config import Config, change_config, resolve_paths
from pneumo_keras.data.pneumonia_mnist import needs_download
from pneumo_keras.features.extract import CHUNK
from pneumo_keras.model.backbone import count_operations
from pneumo_keras.recipes.images import open_data, open_splits, to_options
from pneumo_keras.recipes.network import build_frozen
from pneumo_keras.runs.environment import describe_environment

SUBSTITUTE = "phantom"  # needs no download


def bench_machine(config: Config) -> Bench:
    """Measures every engine on the images of the settings if they are on this machine, else on phantoms."""
    config = resolve_paths(config)
    if config.data.source == "pneumonia_mnist" and needs_download(to_options(config)):
        config = change_config(config, {"data.source": SUBSTITUTE})
    frozen = build_frozen(config)
    split = open_splits(open_data(config), ("val",))["val"]
    return Bench(
        network=f"InceptionV3 up to {', '.join(config.model.feature_layers)}, {config.model.image_size} px",
        images=f"{CHUNK} {split.title}",
        operations=count_operations(frozen.backbone),
        product_rate=measure_product_rate(),
        engines=measure_engines(frozen.backbone, build_images(split.images, frozen)),
        environment=describe_environment(),
    )
