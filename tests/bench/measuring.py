"""What measurements by hand share: processes with their peak memory, rates, rounds in turn, and tables."""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

POLL = 0.05  # seconds between two readings of peaks, which the kernel keeps: only the last moment is missed
TAIL = 500  # characters of what a failed process said


@dataclass(frozen=True)
class Usage:
    """What a process took: seconds, its own peak memory and that of its largest child, in MB."""

    seconds: float
    peak: float
    child_peak: float


def build_environment(**changes: str) -> dict[str, str]:
    """The environment of measured processes: they keep their bytecode, and start on JAX unless told."""
    environment = {"KERAS_BACKEND": "jax", **os.environ, **changes}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def to_command(*arguments: str | Path) -> list[str]:
    """A command line of this project, as `python -m pneumo_keras` of this Python."""
    return [sys.executable, "-m", "pneumo_keras", *map(str, arguments)]


def run_measured(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    watch: Callable[[], Any] = lambda: None,
) -> Usage:
    """Runs a command to its end; `watch` is called every few hundredths of a second meanwhile.

    Raises:
        RuntimeError: It failed.
    """
    peaks: dict[int, int] = {}
    ended = threading.Event()
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)

        def follow() -> None:
            while not ended.wait(POLL):
                for pid in (process.pid, *list_descendants(process.pid)):
                    # The last one counts: until it runs its own program, a child has its parent's memory.
                    peaks[pid] = read_peak(pid) or peaks.get(pid, 0)
                watch()

        follower = threading.Thread(target=follow)
        follower.start()
        process.wait()
        seconds = time.perf_counter() - started
        ended.set()
        follower.join()
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {log.read().decode(errors='replace')[-TAIL:]}")
    own = peaks.pop(process.pid, 0)
    return Usage(seconds, own / 1e3, max(peaks.values(), default=0) / 1e3)


def read_peak(pid: int) -> int:
    """Largest resident set of a process so far, in kB; 0 when it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def list_descendants(pid: int) -> list[int]:
    """Processes that a process has started from any of its threads, and those that they have started."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (thread / "children").read_text().split())
    return children + [other for child in children for other in list_descendants(child)]


def measure_rate(
    runner: Callable[..., Iterator[Any]], batches: Sequence[np.ndarray], seconds: float
) -> float:
    """Images a second of a network over batches in memory, in a window of at least so many seconds."""
    started = time.perf_counter()

    def repeat() -> Iterator[np.ndarray]:
        yield batches[0]
        index = 1
        while time.perf_counter() < started + seconds:
            yield batches[index % len(batches)]
            index += 1

    n = sum(len(features) for features in runner(repeat()))
    return n / (time.perf_counter() - started)


def measure_in_turn(candidates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each candidate measures, every one once a round, so that all meet the machine's drift."""
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        for name, measure in candidates.items():
            measured[name].append(measure())
            say(f"round {number + 1}: {name} {measured[name][-1]:.4g}")
    return measured


def to_ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round: both were measured under the same load."""
    return [value / other for value, other in zip(values, base, strict=True)]


def to_range(values: Sequence[float], digits: int) -> str:
    """Median and, of several, the lowest and the highest."""
    median, *ends = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return median if len(values) == 1 else f"{median} ({' to '.join(ends)})"


def format_markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table for docs/benchmarks.md."""
    return tabulate([[str(cell) for cell in row] for row in rows], header, "github", disable_numparse=True)


def say(line: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{line}\n")
