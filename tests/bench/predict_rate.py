"""How fast `predict` scores a folder, beside the engine alone, and with how much memory, by hand.

python -m tests.bench.predict_rate RUN FOLDER --images 20000 --from FILE.npz

Images that the folder lacks are written first, as PNG: those of an npz in MedMNIST's form again and again,
each time a little different, or phantoms. Engine and `predict` are measured in turn, in a process each.
"""

import argparse
import concurrent.futures
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.bench.measuring import (
    Usage,
    build_environment,
    format_markdown,
    measure_rate,
    run_measured,
    say,
    to_command,
    to_range,
    to_ratios,
)

FEW = 100  # images of the process whose memory is compared
BATCHES = 8  # of the engine, different ones
SEED = 7


@dataclass(frozen=True)
class Prediction:
    """What a `predict` took, its images a second after the first tenth of its rows, and its CSV."""

    usage: Usage
    rate: float
    text: bytes


def measure_predict(
    run: Path,
    paths: Sequence[str | Path],
    n: int,
    *options: str,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[int], Any] = lambda rows: None,
) -> Prediction:
    """Runs `predict` on n images; `watch` is told again and again how many rows there are."""
    moments: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "scores.csv")

        def follow() -> None:
            rows = out.read_bytes().count(b"\n") - 1 if out.exists() else 0
            if rows >= n // 10 and rows > (moments[-1][1] if moments else 0):
                moments.append((time.perf_counter(), rows))
            watch(rows)

        command = to_command("-q", "predict", run, *paths, "--out", out, *options)
        usage = run_measured(command, environment or build_environment(), follow)
        follow()
        text = out.read_bytes()
    (started, first), (ended, last) = moments[0], moments[-1]
    rate = (last - first) / (ended - started) if last > first else float("nan")
    return Prediction(usage, rate, text)


def measure_engine(run: Path, seconds: float) -> float:
    """Images a second of the engine of a run, from batches in memory, each image in all its views."""
    from pneumo_keras.recipes.predict import build_scorer
    from pneumo_keras.runs.run import load_run

    scorer = build_scorer(load_run(run))
    model = scorer.run.config.model
    shape = scorer.chunk, model.image_size, model.image_size, 3
    rng = np.random.default_rng(SEED)
    batches = [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(BATCHES)]
    measure_rate(scorer.runner, batches, 1.0)
    return measure_rate(scorer.runner, batches, seconds) / (1 + model.flip_average)


def write_images(folder: Path, n: int, read: Callable[[int], np.ndarray]) -> list[Path]:
    """Paths of n images in folders of a thousand, of which those that are not there are written."""
    paths = [folder / f"{index // 1000:04}" / f"{index:07}.png" for index in range(n)]
    for index, path in enumerate(paths):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(read(index)).save(path)
    assert sum(1 for _ in folder.rglob("*.*")) == n, f"{folder} has other files"
    return paths


def open_images(file: Path | None, n: int, size: int) -> Callable[[int], np.ndarray]:
    """What gives image by image, size x size: those of an npz in turn, or phantoms."""
    if file is None:
        from pneumo_keras.data.phantom import PhantomImages

        phantoms = PhantomImages(n, size, SEED)
        return lambda index: phantoms.read(slice(index, index + 1))[0]
    with np.load(file) as archive:
        images = np.concatenate([archive[name] for name in archive.files if name.endswith("_images")])

    def read(index: int) -> np.ndarray:
        time_around, row = divmod(index, len(images))
        image = Image.fromarray(images[row]).resize((size, size), Image.Resampling.BILINEAR)
        return np.roll(np.asarray(image), time_around, axis=1)

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--from", dest="file", type=Path, help="npz in MedMNIST's form; phantoms without it")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the engine's window")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    n = options.images
    paths = write_images(options.folder, n, open_images(options.file, n, options.size))
    engine, predictions = [], []
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, fresh, max_tasks_per_child=1) as processes:
        for _ in range(options.rounds):
            engine.append(processes.submit(measure_engine, options.run, options.seconds).result())
            say(f"engine {engine[-1]:.1f} images/s")
            predictions.append(measure_predict(options.run, [options.folder], n))
            say(f"predict {predictions[-1].rate:.1f} images/s, {predictions[-1].usage}")
    few = measure_predict(options.run, paths[:FEW], min(FEW, n)).usage
    running = [one.rate for one in predictions]
    whole = [n / one.usage.seconds for one in predictions]
    rows = [
        (name, to_range(rates, 1), to_range(to_ratios(rates, engine), 3))
        for name, rates in (
            ("engine, batches from memory", engine),
            ("`predict`, from the first tenth of the rows on", running),
            ("`predict`, the whole process", whole),
        )
    ]
    sys.stdout.write(format_markdown((f"{n:,} images", "images/s", "of the engine"), rows) + "\n\n")
    memory = [
        (
            f"{count:,}",
            to_range([one.peak for one in usages], 0),
            to_range([one.child_peak for one in usages], 0),
        )
        for count, usages in ((min(FEW, n), [few]), (n, [one.usage for one in predictions]))
    ]
    header = ("images", "peak memory of the process, MB", "of its largest child, MB")
    sys.stdout.write(format_markdown(header, memory) + "\n")


if __name__ == "__main__":
    main()
