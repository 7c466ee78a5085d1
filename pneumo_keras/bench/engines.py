"""How fast each engine of this machine runs the frozen network, and how exactly."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np

from pneumo_keras.arrays import Features, ImageBatch
from pneumo_keras.bench.speeds import EngineSpeed
from pneumo_keras.data.images import ImageSet
from pneumo_keras.engines.choice import build_runner
from pneumo_keras.engines.runner import Runner
from pneumo_keras.engines.table import ENGINES, Precision
from pneumo_keras.errors import PneumoError
from pneumo_keras.features.extract import CHUNK
from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.runtime.backend import describe_device
from pneumo_keras.runtime.progress import show_progress

log = logging.getLogger("pneumo_keras")

Clock = Callable[[], float]
Key = tuple[str, Precision]

STOCK: Key = ("keras", "float32")


def build_images(images: ImageSet, frozen: FrozenPart) -> ImageBatch:
    """One batch as the backbone sees it; the images are repeated where they do not fill it."""
    some = images.read(np.arange(CHUNK) % len(images))[..., None].astype(np.float32)
    return np.asarray(keras.ops.convert_to_numpy(frozen.scale(frozen.resize(some))))


def measure_engines(
    backbone: keras.Model,
    images: ImageBatch,
    *,
    windows: int = 3,
    seconds: float = 1.0,
    clock: Clock = time.perf_counter,
) -> list[EngineSpeed]:
    """Runs every engine and precision that this machine has, window by window in turn.

    Args:
        backbone: Images (n, size, size, 3) -> features (n, d), frozen.
        images: The batch that each window runs over, at least once.
        windows: Timed for each engine, after one that compiles and warms up.
        seconds: Least duration of a window.
        clock: Tells the time in seconds.

    Returns:
        Stock Keras in float32 first, whatever else there is behind it.
    """
    device = describe_device()
    runners = _build_runners(backbone, device)
    features: dict[Key, Features] = {}
    for key, runner in runners.items():
        log.info("Warming up %s, %s", *key)
        features[key] = next(runner([images]))
    rates = measure_rates(runners, images, windows=windows, seconds=seconds, clock=clock)
    return [
        EngineSpeed(
            engine=key[0],
            precision=key[1],
            device="cpu" if key[0] == "openvino" else device,
            rates=tuple(rates[key]),
            ratios=tuple(rate / stock for rate, stock in zip(rates[key], rates[STOCK], strict=True)),
            deviation=to_deviation(features[key], features[STOCK]),
        )
        for key in runners
    ]


def list_candidates(device: str) -> list[Key]:
    """All engines and precisions worth a try on a device, stock Keras first."""
    return [
        (engine, precision)
        for engine, about in ENGINES.items()
        for precision in about.precisions
        # JAX only imitates bfloat16 on a CPU.
        if (engine, precision, device) != ("jax", "bfloat16", "cpu")
    ]


def _build_runners(backbone: keras.Model, device: str) -> dict[Key, Runner]:
    runners: dict[Key, Runner] = {}
    for engine, precision in list_candidates(device):
        try:
            runners[engine, precision] = build_runner(backbone, engine=engine, precision=precision)
        except PneumoError as error:
            log.info("Left out %s, %s: %s", engine, precision, error)
    return runners


def measure_rates(
    runners: Mapping[Key, Runner],
    images: ImageBatch,
    *,
    windows: int,
    seconds: float,
    clock: Clock,
) -> dict[Key, list[float]]:
    """Images a second of each network in each window, in rounds: drift of the machine hits all alike."""
    rates: dict[Key, list[float]] = {key: [] for key in runners}
    with show_progress("Engines", windows * len(runners), "windows") as progress:
        for _, (key, runner) in itertools.product(range(windows), runners.items()):
            started = clock()
            stream = runner(_repeat(images, started + seconds, clock))
            n = sum(len(features) for features in stream)
            rates[key].append(n / (clock() - started))
            progress.advance(1)
    return rates


def _repeat(images: ImageBatch, until: float, clock: Clock) -> Iterator[ImageBatch]:
    yield images
    while clock() < until:
        yield images


def to_deviation(features: Features, stock: Features) -> float:
    """Largest absolute deviation over the largest absolute feature of stock Keras."""
    return float(np.abs(features - stock).max() / np.abs(stock).max())
