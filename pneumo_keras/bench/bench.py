"""What this machine makes of the frozen network and of the whole job: rates, deviation, memory."""

import functools
import itertools
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import Features, ImageBatch
from pneumo_keras.backend import describe_device
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.engines.choice import build_runner
from pneumo_keras.engines.runner import Runner
from pneumo_keras.engines.table import ENGINES, Precision
from pneumo_keras.errors import PneumoError, RunError
from pneumo_keras.features.extract import CHUNK
from pneumo_keras.model.preprocessing import build_resizing, build_scaling
from pneumo_keras.progress import show_progress

log = logging.getLogger("pneumo_keras")

Clock = Callable[[], float]
Key = tuple[str, Precision]

STOCK: Key = ("keras", "float32")
PRODUCT_EDGE = 2048
PROGRAM = (sys.executable, "-m", "pneumo_keras")

# Runs the rest of its arguments as a command. A process of its own, and a small one: Linux counts the
# memory of the process that starts a command as the command's, until it has grown larger.
LAUNCHER = """
import json, subprocess, sys, time
started = time.perf_counter()
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - started
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
except ImportError:  # on Windows
    peak = None
print(json.dumps({"status": status, "seconds": seconds, "peak": peak}))
"""


@dataclass(frozen=True)
class EngineFigures:
    """One engine in one precision.

    Attributes:
        device: What it computes on.
        rates: Images a second, window by window.
        ratios: Its rate over that of stock Keras in the same round.
        deviation: Largest absolute deviation of a feature from stock Keras in float32, over the
            largest absolute feature.
    """

    engine: str
    precision: Precision
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
        """Times as fast as stock Keras, the median of paired ratios."""
        return statistics.median(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it, medians included."""
        return {**asdict(self), "rate": self.rate, "ratio": self.ratio}


@dataclass(frozen=True)
class JobFigures:
    """One command of the whole job, as a process of its own.

    Attributes:
        command: "train" or "eval".
        cache: "cold", where it computes the features, or "warm", where it finds them.
        seconds: From start to end.
        peak_bytes: Most memory that it held at a time; None where the system does not tell.
    """

    command: str
    cache: str
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Bench:
    """All figures of one machine.

    Attributes:
        network: What runs, in words.
        films: On what, in words.
        operations: Additions and multiplications for an image, as stock Keras does them.
        product_rate: Operations a second of a plain float32 matrix product.
        engines: Stock Keras first.
        job: Empty where it was not asked for.
        environment: Versions, backend, device, processor.
    """

    network: str
    films: str
    operations: int
    product_rate: float
    engines: Sequence[EngineFigures]
    job: Sequence[JobFigures]
    environment: Mapping[str, Any]

    def to_share(self, figures: EngineFigures) -> float:
        """Useful operations over those of a matrix product in the same time; NaN on another device.

        Above 1 where an engine reaches the result with fewer operations than stock Keras does.
        """
        if figures.device != self.environment["device"]:
            return math.nan
        return figures.rate * self.operations / self.product_rate

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it."""
        engines = []
        for figures in self.engines:
            share = self.to_share(figures)
            engines.append(
                {
                    **figures.to_dict(),
                    "operations_per_second": figures.rate * self.operations,
                    "share_of_product": None if math.isnan(share) else share,
                }
            )
        return {**asdict(self), "engines": engines}


def build_images(films: LabelledFilms, image_size: int) -> ImageBatch:
    """One batch as the backbone sees it; the films are repeated where they do not fill it."""
    some = films.read(np.arange(CHUNK) % len(films))[..., None].astype(np.float32)
    images = build_scaling(image_size)(build_resizing(image_size)(some))
    return np.asarray(keras.ops.convert_to_numpy(images))


def count_operations(backbone: keras.Model) -> int:
    """Additions and multiplications of the convolutions for one image; all the rest is small."""
    convolutions: list[Any] = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    return sum(
        2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3]) for layer in convolutions
    )


def measure_engines(
    backbone: keras.Model,
    images: ImageBatch,
    *,
    windows: int = 3,
    seconds: float = 1.0,
    clock: Clock = time.perf_counter,
) -> list[EngineFigures]:
    """Runs every engine and precision that this machine has, window by window in turn.

    Args:
        backbone: Images (n, size, size, 3) -> features (n, d), frozen.
        images: What each window runs over, at least once.
        windows: Timed for each engine, after one that compiles and warms up.
        seconds: Least duration of a window.
        clock: Tells the time in seconds.

    Returns:
        Stock Keras in float32 first, whatever else there is behind it.
    """
    device = describe_device()
    networks = _build_networks(backbone, device)
    batches = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    features: dict[Key, Features] = {}
    for key, network in networks.items():
        log.info("Warming up %s, %s", *key)
        features[key] = np.concatenate(list(network(batches)))
    rates = measure_rates(networks, batches, windows=windows, seconds=seconds, clock=clock)
    return [
        EngineFigures(
            engine=key[0],
            precision=key[1],
            device="cpu" if key[0] == "openvino" else device,
            rates=tuple(rates[key]),
            ratios=tuple(rate / stock for rate, stock in zip(rates[key], rates[STOCK], strict=True)),
            deviation=to_deviation(features[key], features[STOCK]),
        )
        for key in networks
    ]


def _build_networks(backbone: keras.Model, device: str) -> dict[Key, Runner]:
    candidates: list[Key] = [
        (name, precision) for name, engine in ENGINES.items() for precision in engine.precisions
    ]
    if device == "cpu":  # which JAX only imitates bfloat16 on
        candidates.remove(("jax", "bfloat16"))
    networks: dict[Key, Runner] = {}
    for engine, precision in candidates:
        try:
            networks[engine, precision] = build_runner(backbone, engine=engine, precision=precision)
        except PneumoError as error:
            log.info("Left out %s, %s: %s", engine, precision, error)
    return networks


def measure_rates(
    networks: Mapping[Key, Runner],
    batches: Sequence[ImageBatch],
    *,
    windows: int,
    seconds: float,
    clock: Clock,
) -> dict[Key, list[float]]:
    """Images a second of each network in each window, in rounds: drift of the machine hits all alike."""
    rates: dict[Key, list[float]] = {key: [] for key in networks}
    images = sum(len(batch) for batch in batches)
    with show_progress("Engines", windows * len(networks) * images, "images") as progress:
        for _, (key, network) in itertools.product(range(windows), networks.items()):
            started = clock()
            stream = network(_repeat(batches, started + seconds, clock))
            n = sum(len(features) for features in stream)
            rates[key].append(n / (clock() - started))
            progress.advance(images)
    return rates


def _repeat(batches: Sequence[ImageBatch], until: float, clock: Clock) -> Iterator[ImageBatch]:
    for index, batch in enumerate(itertools.cycle(batches)):
        if index >= len(batches) and clock() >= until:
            return
        yield batch


def to_deviation(features: Features, stock: Features) -> float:
    """Largest absolute deviation over the largest absolute feature of stock Keras."""
    return float(np.abs(features - stock).max() / np.abs(stock).max())


def measure_product_rate(
    *, edge: int = PRODUCT_EDGE, repeats: int = 5, clock: Clock = time.perf_counter
) -> float:
    """Operations a second of a square float32 matrix product, the best of several.

    Of the backend with its own settings (a GPU may round to TF32); on a CPU of NumPy, too.
    """
    on_cpu = describe_device() == "cpu"
    # On an accelerator several in a row, so that the way there and back does not count.
    chain = 1 if on_cpu else 32
    left, right = np.random.default_rng(0).normal(0, edge**-0.5, (2, edge, edge)).astype(np.float32)
    on_device = keras.ops.convert_to_tensor(left), keras.ops.convert_to_tensor(right)

    def multiply_on_backend() -> None:
        product: Any = on_device[0]
        for _ in range(chain):
            product = keras.ops.matmul(product, on_device[1])
        keras.ops.convert_to_numpy(product[0, 0])  # waits for all of it

    works = [(multiply_on_backend, chain)]
    if on_cpu:
        works.append((functools.partial(np.matmul, left, right), 1))
    return max(
        count * 2 * edge**3 / _measure_least_seconds(multiply, repeats, clock) for multiply, count in works
    )


def _measure_least_seconds(work: Callable[[], Any], repeats: int, clock: Clock) -> float:
    work()
    durations = []
    for _ in range(repeats):
        started = clock()
        work()
        durations.append(clock() - started)
    return min(durations)


def measure_job(arguments: Sequence[str], *, program: Sequence[str] = PROGRAM) -> list[JobFigures]:
    """Trains and evaluates twice in a temporary folder, the second time with what the first left.

    Args:
        arguments: Of train: `--config` and `--set`.
        program: The command line to measure.

    Raises:
        RunError: A command failed.
    """
    jobs = []
    # Where nobody listens to our log lines, nobody wants those of the commands.
    shown = any(handler.level <= logging.INFO for handler in log.handlers)
    start = [*program] if shown else [*program, "--quiet"]
    with tempfile.TemporaryDirectory(prefix="pneumo-keras-bench-") as folder:
        environment = {**os.environ, "PNEUMO_KERAS_CACHE": str(Path(folder) / "cache")}
        for cache in ("cold", "warm"):
            run = str(Path(folder) / cache)
            for command in (["train", *arguments, "--run", run], ["eval", run]):
                log.info("The whole job, %s cache: %s", cache, " ".join(command))
                seconds, peak_bytes = measure_command([*start, *command], environment)
                jobs.append(JobFigures(command[0], cache, seconds, peak_bytes))
    return jobs


def measure_command(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[float, int | None]:
    """Seconds and peak memory in bytes of a command; what it writes on stderr is passed on.

    Args:
        command: Program and arguments.
        environment: Its environment variables, if not ours.

    Raises:
        RunError: It failed.
    """
    launcher = [sys.executable, "-c", LAUNCHER, *command]
    done = subprocess.run(launcher, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    if result["status"]:
        raise RunError(
            f"The whole job stopped, for the reason above: {' '.join(command)} ended with exit status "
            f"{result['status']}. Mend that, or leave out --job."
        )
    return result["seconds"], result["peak"]


def format_bench(bench: Bench) -> str:
    """The figures as tables, for a terminal."""
    about = bench.environment
    versions = ", ".join(f"{name} {about['packages'][name]}" for name in ("keras", about["backend"]))
    lines = [
        f"{bench.network}: {bench.operations / 1e9:.2f} GFLOP an image",
        f"{bench.films}; {versions} on {about['device']}; {about['processor']}, {about['cores']} cores",
        f"A plain float32 matrix product runs at {bench.product_rate / 1e9:,.0f} GFLOP/s.",
        "",
        f"{'engine':<10}{'precision':<11}{'images/s':>9}   {'min to max':<18}{'x keras':>8}"
        f"{'GFLOP/s':>9}{'of product':>12}{'deviation':>11}",
    ]
    for figures in bench.engines:
        share = bench.to_share(figures)
        spread = f"{min(figures.rates):,.1f} to {max(figures.rates):,.1f}"
        lines.append(
            f"{figures.engine:<10}{figures.precision:<11}{figures.rate:>9,.1f}   {spread:<18}"
            f"{figures.ratio:>8.2f}{figures.rate * bench.operations / 1e9:>9,.0f}"
            f"{'-' if math.isnan(share) else f'{share:.0%}'.replace('%', ' %'):>12}{figures.deviation:>11.1e}"
        )
    lines += [
        "",
        f"Median of {len(bench.engines[0].rates)} windows in turn, films already prepared. Operations are "
        "those of stock Keras,",
        "deviation is the largest of any feature over the largest feature.",
    ]
    return "\n".join([*lines, *(_format_job(bench.job) if bench.job else [])])


def _format_job(job: Sequence[JobFigures]) -> list[str]:
    lines = ["", f"{'command':<10}{'cache':<8}{'seconds':>9}{'peak memory':>14}"]
    for figures in job:
        memory = "-" if figures.peak_bytes is None else f"{figures.peak_bytes / 1e9:.2f} GB"
        lines.append(f"{figures.command:<10}{figures.cache:<8}{figures.seconds:>9.1f}{memory:>14}")
    seconds = {(figures.command, figures.cache): figures.seconds for figures in job}
    parts = [f"{seconds[name, 'cold'] - seconds[name, 'warm']:.1f} s of {name}" for name in ("train", "eval")]
    return [
        *lines,
        "",
        f"Cold less warm, what the features cost with compiling: {' and '.join(parts)}. Warm, the rest: "
        "start, fit, files.",
    ]
