"""Seconds of whole commands when everything is cached, beside those of importing Keras, by hand.

python -m tests.bench.startup RUN --image FILE -- --set data.path=FILE --set model.weights=FILE

What stands behind `--` goes to `train`, which trains a new run each time. The first round fills the caches
and is not counted. RUN is copied, so that `eval` changes nothing in it.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.bench.measuring import (
    build_environment,
    format_markdown,
    measure_in_turn,
    say,
    to_command,
    to_range,
    to_ratios,
)

IMPORT = "import keras"


def time_command(build: Callable[[], Sequence[str]], environment: Mapping[str, str]) -> float:
    """Seconds of a process from its start to its end.

    Raises:
        RuntimeError: It failed.
    """
    command = build()
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-500:]}")
    return seconds


def list_commands(
    run: Path, image: Path, settings: Sequence[str], folder: Path
) -> dict[str, Callable[[], Sequence[str]]]:
    """The commands by name; each is built when it is run, since `train` needs a new folder."""
    numbers = itertools.count()
    score = f"import pneumo_keras; pneumo_keras.load_run({str(run)!r}).predict({str(image)!r})"
    fixed = {
        IMPORT: [sys.executable, "-c", IMPORT],
        "import pneumo_keras": [sys.executable, "-c", "import pneumo_keras"],
        "load_run(...).predict(image)": [sys.executable, "-c", score],
        "eval": to_command("eval", run),
        "predict RUN image": to_command("predict", run, image),
        "config show": to_command("config", "show"),
        "--version": to_command("--version"),
    }
    return {
        "train": lambda: to_command("train", "--run", folder / str(next(numbers)), *settings),
        **{name: partial(list, command) for name, command in fixed.items()},
    }


def list_rows(seconds: Mapping[str, list[float]]) -> list[tuple[str, str, str]]:
    """Commands with median and range of seconds, and of those over the import in the same round."""
    return [
        (f"`{name}`", to_range(values, 2), to_range(to_ratios(values, seconds[IMPORT]), 2))
        for name, values in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--image", type=Path, required=True, help="scored by predict")
    parser.add_argument("--rounds", type=int, default=7)
    own = list(itertools.takewhile(lambda argument: argument != "--", sys.argv[1:]))
    options, settings = parser.parse_args(own), sys.argv[len(own) + 2 :]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = shutil.copytree(options.run, folder / "run")
        commands = list_commands(run, options.image, settings, folder)
        timed = {name: partial(time_command, build, build_environment()) for name, build in commands.items()}
        say("Filling the caches, which is not counted")
        measure_in_turn(timed, 1)
        seconds = measure_in_turn(timed, options.rounds)
    sys.stdout.write(format_markdown(("command", "seconds", f"of `{IMPORT}`"), list_rows(seconds)) + "\n")


if __name__ == "__main__":
    main()
