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
from pneumo_keras.config import Config
from pneumo_keras.data.sources import SOURCES
from pneumo_keras.features.extract import CHUNK
from pneumo_keras.recipes.films import open_data, to_options
from pneumo_keras.recipes.network import build_frozen
from pneumo_keras.runs.environment import describe_environment


def bench_machine(config: Config, job: Sequence[str] | None) -> Bench:
    """Measures every engine on this machine, and the whole job where its arguments are given.

    On the films of the settings where they lie on this machine, on phantom films otherwise.
    """
    if not SOURCES[config.data.source].is_at_hand(to_options(config)):
        drawn = config.data.model_copy(update={"source": "phantom"})
        config = config.model_copy(update={"data": drawn})
        job = [*job, "--set", "data.source=phantom"] if job is not None else None
    backbone = build_frozen(config)
    data = open_data(config)
    images = build_images(data.open_split("val"), config.model.image_size)
    return Bench(
        network=f"InceptionV3 up to {', '.join(config.model.taps)}, {config.model.image_size} px",
        films=f"{CHUNK} {SPLIT_NAMES['val']} of {data.card.title}",
        operations=count_operations(backbone),
        product_rate=measure_product_rate(),
        engines=measure_engines(backbone, images),
        job=measure_job(job) if job is not None else [],
        environment=describe_environment(),
    )
