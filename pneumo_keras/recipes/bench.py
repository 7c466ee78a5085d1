"""This machine measured."""

from collections.abc import Sequence

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.bench.bench import (
    Bench,
    build_images,
    count_operations,
    measure_engines,
    measure_job,
    measure_product_rate,
)
from pneumo_keras.config import Config, resolve_paths
from pneumo_keras.data.pneumonia_mnist.catalog import load_release
from pneumo_keras.data.pneumonia_mnist.source import to_medmnist_folder
from pneumo_keras.features.extract import CHUNK
from pneumo_keras.recipes.films import load_splits, name_films
from pneumo_keras.recipes.network import build_frozen
from pneumo_keras.runs.environment import describe_environment


def bench_machine(config: Config, job: Sequence[str] | None) -> Bench:
    """Measures every engine on this machine, and the whole job where its arguments are given.

    On the films of the settings where they lie on this machine, on phantom films otherwise.
    """
    config = resolve_paths(config)
    data = config.data
    at_hand = data.path or (to_medmnist_folder() / load_release(data.size).name).is_file()
    if data.source == "pneumonia_mnist" and not at_hand:
        config = config.model_copy(update={"data": data.model_copy(update={"source": "phantom"})})
        job = [*job, "--set", "data.source=phantom"] if job is not None else None
    backbone = build_frozen(config)
    films = load_splits(config, ("val",))["val"]
    images = build_images(films, config.model.image_size)
    return Bench(
        network=f"InceptionV3 up to {', '.join(config.model.taps)}, {config.model.image_size} px",
        films=f"{CHUNK} {SPLIT_NAMES['val']} of {name_films(config)}",
        operations=count_operations(backbone),
        product_rate=measure_product_rate(),
        engines=measure_engines(backbone, images),
        job=measure_job(job) if job is not None else [],
        environment=describe_environment(),
    )
