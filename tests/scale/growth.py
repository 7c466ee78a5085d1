"""How seconds and memory of `train`, `eval` and `predict` grow with the number of images, by hand.

python -m tests.scale.growth --images 1000 10000 100000 --folder FOLDER

Phantom images of 28 px through a small random network, so that the rest of the program shows: n to train on,
n to evaluate, a tenth to validate, n files to predict. No features are cached; programs are compiled before,
for a few images. A slope of 1 between two numbers of images means that twice as many take twice as long.
What stands behind `--` goes to `train`.
"""

import argparse
import itertools
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.measuring import Usage, build_environment, format_markdown, run_measured, say, to_command
from tests.bench.predict_rate import open_images, write_images

SIZE, CACHE = 28, "cache"
NETWORK = ("model.weights=none", "model.image_size=75", "model.feature_layers=mixed0", "augmentation.views=0")
LEAST = 50  # validation images
FEW = 64  # images for which programs are compiled


def list_commands(n: int, folder: Path, images: Path, options: Sequence[str]) -> dict[str, list[str]]:
    """The three commands for n images, in their order."""
    run = folder / "run"
    settings = [*NETWORK, "data.source=phantom", f"data.phantom_images=[{n}, {max(n // 10, LEAST)}, {n}]"]
    sets = [argument for setting in settings for argument in ("--set", setting)]
    return {
        "train": to_command("train", *sets, *options, "--run", run),
        "eval": to_command("eval", run),
        "predict": to_command("predict", run, images, "--out", folder / "scores.csv"),
    }


def measure_commands(n: int, folder: Path, options: Sequence[str]) -> dict[str, Usage]:
    """What each command takes for n images."""
    images, own = folder / f"images-{n}", folder / f"run-{n}"
    write_images(images, n, open_images(None, n, SIZE))
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    environment = build_environment(PNEUMO_KERAS_CACHE=str(folder / CACHE))
    usages = {}
    for name, command in list_commands(n, own, images, options).items():
        usages[name] = run_measured(command, environment)
        say(f"{n:,} images: {name} {usages[name]}")
    return usages


def to_slope(small: tuple[int, float], large: tuple[int, float]) -> float:
    """Exponent of the growth between two numbers of images: 0 is constant, 1 linear, 2 quadratic."""
    return math.log(large[1] / small[1]) / math.log(large[0] / small[0])


def list_rows(usages: Mapping[int, Mapping[str, Usage]]) -> list[tuple[str, ...]]:
    """A row for each command and number of images, with the slopes from the number before."""
    rows = []
    for name in next(iter(usages.values())):
        points = [(n, of_n[name]) for n, of_n in usages.items()]
        for before, (n, usage) in zip([None, *points], points, strict=False):
            slopes = ("-", "-")
            if before:
                few, less = before
                slopes = (
                    f"{to_slope((few, less.seconds), (n, usage.seconds)):.2f}",
                    f"{to_slope((few, less.peak), (n, usage.peak)):.2f}",
                )
            figures = f"{usage.seconds:.1f}", slopes[0], f"{usage.peak:,.0f}", slopes[1]
            rows.append((f"`{name}`", f"{n:,}", *figures, f"{usage.child_peak:,.0f}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument(
        "--folder", type=Path, required=True, help="for images, which are used again, and runs"
    )
    own = list(itertools.takewhile(lambda argument: argument != "--", sys.argv[1:]))
    options, settings = parser.parse_args(own), sys.argv[len(own) + 2 :]
    shutil.rmtree(options.folder / CACHE, ignore_errors=True)
    measure_commands(FEW, options.folder, settings)
    usages = {n: measure_commands(n, options.folder, settings) for n in sorted(options.images)}
    header = ("command", "images", "seconds", "slope", "peak MB", "slope", "largest child, MB")
    sys.stdout.write(format_markdown(header, list_rows(usages)) + "\n")


if __name__ == "__main__":
    main()
