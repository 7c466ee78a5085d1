"""How fast and how exactly each engine of this machine runs the frozen network."""

import functools
import itertools
import logging
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import Features, ImageBatch
from pneumo_keras.data.images import ImageSet
from pneumo_keras.engines.choice import build_runner
from pneumo_keras.engines.runner import Runner
from pneumo_keras.engines.table import ENGINES, Precision
from pneumo_keras.errors import PneumoError
from pneumo_keras.features.extract import CHUNK
from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.model.inference import resize_images, scale_images
from pneumo_keras.runtime.backend import describe_device
from pneumo_keras.runtime.progress import show_progress

log = logging.getLogger("pneumo_keras")

Key = tuple[str, Precision]

STOCK: Key = ("keras", "float32")

WINDOWS = 3  # timed for each engine, after one batch that compiles and warms up
SECONDS = 1.0  # of a window, at least
PRODUCT_EDGE, PRODUCT_REPEATS = 2048, 5


@dataclass(frozen=True)
class EngineSpeed:
    """One engine in one precision.

    Attributes:
        engine: Its name in the settings.
        precision: "float32" or "bfloat16".
        device: "cpu", or the accelerator's name.
        rates: Images a second, window by window.
        ratios: Its rate over that of stock Keras in the same round.
        deviation: Largest absolute deviation of a feature from stock Keras in float32, over the
            largest absolute feature.
    """

    engine: str
    precision: str
    device: str
    rates: tuple[float, ...]
    ratios: tuple[float, ...]
    deviation: float

    @property
    def rate(self) -> float:
        """Images a second, the median over the windows."""
        return statistics.median(self.rates)

    @property
    def ratio(self) -> float:
        """Times as fast as stock Keras, the median over the rounds.

        Not the ratio of the medians: a round measures both under the same load, so drift cancels.
        """
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class Bench:
    """All that was measured of one machine.

    Attributes:
        network: In words.
        images: In words.
        operations: Additions and multiplications for an image, as stock Keras does them.
        product_rate: Operations a second of a plain float32 matrix product.
        engines: Stock Keras first.
        environment: Versions, backend, device, processor.
    """

    network: str
    images: str
    operations: int
    product_rate: float
    engines: Sequence[EngineSpeed]
    environment: Mapping[str, Any]

    def to_matmul_fraction(self, speed: EngineSpeed) -> float:
        """Useful operations over those of a matrix product in the same time; NaN on another device.

        Above 1 where an engine reaches the result with fewer operations than stock Keras does.
        """
        if speed.device != self.environment["device"]:
            return math.nan
        return speed.rate * self.operations / self.product_rate

    def to_dict(self) -> dict[str, Any]:
        """For JSON, medians included; None where there is no fraction."""
        engines = [
            {
                **asdict(speed),
                "rate": speed.rate,
                "ratio": speed.ratio,
                "operations_per_second": speed.rate * self.operations,
                "share_of_product": None if math.isnan(part := self.to_matmul_fraction(speed)) else part,
            }
            for speed in self.engines
        ]
        return {**asdict(self), "engines": engines}


def build_images(images: ImageSet, frozen: FrozenPart) -> ImageBatch:
    """One batch as the backbone sees it; the images are repeated where they do not fill it."""
    some = images.read(np.arange(CHUNK) % len(images))
    return scale_images(resize_images(some, frozen.backbone.input_shape[1]))


def measure_engines(backbone: keras.Model, images: ImageBatch) -> list[EngineSpeed]:
    """Runs every engine and precision that this machine has on a batch, stock Keras in float32 first."""
    device = describe_device()
    runners = _build_runners(backbone, device)
    features: dict[Key, Features] = {}
    for key, runner in runners.items():
        log.info("Warming up %s, %s", *key)
        features[key] = next(runner([images]))
    rates = measure_rates(runners, images)
    largest = np.abs(features[STOCK]).max()
    return [
        EngineSpeed(
            engine=key[0],
            precision=key[1],
            device="cpu" if key[0] == "openvino" else device,
            rates=tuple(rates[key]),
            ratios=tuple(rate / stock for rate, stock in zip(rates[key], rates[STOCK], strict=True)),
            deviation=float(np.abs(features[key] - features[STOCK]).max() / largest),
        )
        for key in runners
    ]


def _build_runners(backbone: keras.Model, device: str) -> dict[Key, Runner]:
    runners: dict[Key, Runner] = {}
    for engine, about in ENGINES.items():
        for precision in about.precisions:
            if (engine, precision, device) == ("jax", "bfloat16", "cpu"):  # JAX only imitates it there
                continue
            try:
                runners[engine, precision] = build_runner(backbone, engine=engine, precision=precision)
            except PneumoError as error:
                log.info("Left out %s, %s: %s", engine, precision, error)
    return runners


def measure_rates(runners: Mapping[Key, Runner], images: ImageBatch) -> dict[Key, list[float]]:
    """Images a second of each network in each window, in rounds: drift of the machine affects all equally."""
    rates: dict[Key, list[float]] = {key: [] for key in runners}
    with show_progress("Engines", WINDOWS * len(runners), "windows") as progress:
        for _, (key, runner) in itertools.product(range(WINDOWS), runners.items()):
            started = perf_counter()
            n = sum(len(features) for features in runner(_repeat(images, until=started + SECONDS)))
            rates[key].append(n / (perf_counter() - started))
            progress.advance(1)
    return rates


def _repeat(images: ImageBatch, until: float) -> Iterator[ImageBatch]:
    yield images
    while perf_counter() < until:
        yield images


def measure_product_rate() -> float:
    """Operations a second of a square float32 matrix product, the best of several.

    Of the backend with its own settings (a GPU may round to TF32); on a CPU of NumPy, too.
    """
    on_cpu = describe_device() == "cpu"
    # On an accelerator several in a row, so that the way there and back does not count.
    chain = 1 if on_cpu else 32
    factors = np.random.default_rng(0).normal(0, PRODUCT_EDGE**-0.5, (2, PRODUCT_EDGE, PRODUCT_EDGE))
    left, right = factors.astype(np.float32)
    on_device = keras.ops.convert_to_tensor(left), keras.ops.convert_to_tensor(right)

    def multiply_on_backend() -> None:
        product: Any = on_device[0]
        for _ in range(chain):
            product = keras.ops.matmul(product, on_device[1])
        keras.ops.convert_to_numpy(product[0, 0])  # waits for all of it

    rates = [chain / _measure_least_seconds(multiply_on_backend)]
    if on_cpu:
        rates.append(1 / _measure_least_seconds(functools.partial(np.matmul, left, right)))
    return 2 * PRODUCT_EDGE**3 * max(rates)


def _measure_least_seconds(work: Callable[[], Any]) -> float:
    work()
    durations = []
    for _ in range(PRODUCT_REPEATS):
        started = perf_counter()
        work()
        durations.append(perf_counter() - started)
    return min(durations)
