"""Fails the file operations of a command in turn: one line, nothing half, and all is well the next time.

`python -m tests.faults.operations train once` in the root of the checkout does it for all of them and
prints what became of each; likewise `eval` and `predict`, and with a disk that stays `full` or `read-only`.
A step and a first operation behind choose some.
"""

import collections
import errno
import hashlib
import os
import shutil
import sys
import tempfile
import traceback
import zipfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from click.testing import CliRunner
from PIL import Image

from tests.faults.disk import FULL, READ_ONLY, Disk, failing
from tests.small import SMALL

TRAIN = ["train", "--config", "demo", *(part for setting in SMALL for part in ("--set", setting))]
OUTCOMES = ("finished all the same", "one line")
ONCE = (errno.EIO,)
WAYS = {"once": ONCE, "full": (errno.ENOSPC, FULL), "read-only": (errno.EROFS, READ_ONLY)}
"""How a disk fails from an operation on: with which error, and what it refuses then."""
LOCKS = {".claim.lock", ".manifest.lock"}
"""Files that stay where nobody could lock them, until the next try."""
UNFINISHED = {"checkpoint", "unfinished.json"}  # files of a run that is not finished
EVALUATION = ("scores_test.csv", "metrics_test.json", "figures/summary.png", "report.html")
IMAGES = 3


@dataclass
class Trial:
    """What became of a command whose disk failed.

    Attributes:
        at: The operation: its number, its kind and its path.
        outcome: How the command ended.
        said: On stderr.
        faults: What was wrong about it.
    """

    at: tuple[int, str, str]
    outcome: str
    said: str
    faults: list[str]


def invoke(root, *arguments, disk=None):
    """Runs a command within `root`, quietly, with a cache of its own."""
    import keras

    from pneumo_keras.cli import main
    from pneumo_keras.runs import environment

    keras.utils.clear_session()  # or layers would be counted on from one command to the next
    with (
        mock.patch.dict(os.environ, {"PNEUMO_KERAS_CACHE": str(root / "cache")}),
        mock.patch.object(
            environment, "find_revision", return_value=None
        ),  # which somebody may change meanwhile
        failing(disk or Disk(root)),
    ):
        return CliRunner().invoke(main, ["-q", *map(str, arguments)], prog_name="pneumo-keras")


def evaluate(done):
    """How a command ended, and what was wrong about how it did."""
    if done.exception and not isinstance(done.exception, SystemExit):
        return "traceback", ["".join(traceback.format_exception(done.exception))[-1500:]]
    if done.exit_code not in (0, 1):
        return "status", [f"status {done.exit_code}: {done.output}"]
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    faults = [] if len(errors) == done.exit_code else [f"status {done.exit_code}: {done.stderr!r}"]
    if done.exit_code and len(lines) > 1:
        faults.append(f"more than a line: {done.stderr!r}")
    return OUTCOMES[done.exit_code], faults


def read_files(folder):
    """What all files below a folder hold, by name, but the log, which is never the same."""
    return {
        str(path.relative_to(folder)): read_weights(path) if path.suffix == ".keras" else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("train.log", "manifest.sha256")
    }


def read_weights(path):
    """Those of a saved model: Keras writes the time and identities of its objects beside them."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read("model.weights.h5")


def read_manifest(folder):
    """What a run's manifest says and what is wrong with it."""
    path = folder / "manifest.sha256"
    lines = path.read_text().splitlines() if path.exists() else []
    noted = dict(reversed(line.split("  ")) for line in lines)
    wrong = [name for name, digest in noted.items() if hash_file(folder / name) != digest]
    return noted, wrong


def hash_file(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def compare(found, whole):
    """What is wrong about the files of a run that is finished."""
    return [
        f"{name} differs"
        for name in sorted(found.keys() | whole.keys())
        if found.get(name) != whole.get(name)
    ]


def check_manifest(folder):
    """What a run's manifest is wrong about."""
    return [f"the manifest is wrong about {name}" for name in read_manifest(folder)[1]]


def is_passing(name):
    """Whether a file is there for a while alone."""
    return name in UNFINISHED or Path(name).name.startswith(".")


def leave_out_passing(found):
    return {name: content for name, content in found.items() if not is_passing(name)}


def could_not_remove(disk):
    """Whether the disk failed where something was to be removed."""
    return "remove" in disk.lasting or disk.get_failed()[0] in ("remove", "rmdir", "scandir")


class Training:
    """A training on nothing but its settings."""

    holds_folder = True  # alone: what an earlier one could not remove goes

    def __init__(self, parent):
        self.prepared = parent / "start"
        self.prepared.mkdir()
        self.whole = {}

    def run(self, root, disk=None):
        return invoke(root, *TRAIN, "--run", root / "run", disk=disk)

    def retry(self, root):
        return invoke(root, *TRAIN, "--run", root / "run", "--resume")

    def read(self, root):
        return read_files(root / "run")

    def check(self, root, found):
        """No file is half, and the manifest vouches for none that is another."""
        halves = [name for name in found if name not in UNFINISHED and found[name] != self.whole.get(name)]
        return [*(f"{name} is half" for name in halves), *check_manifest(root / "run")]


class Evaluation:
    """An evaluation of a run that was evaluated before, with other findings."""

    holds_folder = False  # others may be writing there: a hidden half that could not be removed stays

    def __init__(self, parent):
        self.prepared = parent / "start"
        self.prepared.mkdir()
        run = self.prepared / "run"
        require(invoke(self.prepared, *TRAIN, "--run", run))
        shutil.copytree(self.prepared / "cache", parent / "cache")
        require(invoke(self.prepared, "eval", run))
        shutil.rmtree(self.prepared / "cache")
        (parent / "cache").rename(self.prepared / "cache")  # which knows no test images
        self.old = {}
        for name in EVALUATION:
            (run / name).write_bytes((run / name).read_bytes() + b"\n")
            self.old[name] = (run / name).read_bytes()
        from pneumo_keras.runs.folder import extend_manifest

        extend_manifest(run, EVALUATION)
        self.whole = {}

    def run(self, root, disk=None):
        return invoke(root, "eval", root / "run", disk=disk)

    def retry(self, root):
        return self.run(root)

    def read(self, root):
        return read_files(root / "run")

    def check(self, root, found):
        """No file is half, and the manifest does not say that old and new ones belong together."""
        halves = [name for name in found if found[name] not in (self.old.get(name), self.whole.get(name))]
        noted, wrong = read_manifest(root / "run")
        vouched = {
            found[name] == self.old[name] for name in EVALUATION if name in noted and name not in wrong
        }
        mixed = ["the manifest vouches for a mix"] if len(vouched) > 1 else []
        return [*(f"{name} is half" for name in halves), *mixed]


class Prediction:
    """A table of scores for some images."""

    holds_folder = True

    def __init__(self, parent):
        self.prepared = parent / "start"
        self.prepared.mkdir()
        require(invoke(self.prepared, *TRAIN, "--run", self.prepared / "run"))
        (self.prepared / "images").mkdir()
        for index in range(IMAGES):
            Image.new("L", (28, 28), 60 * index).save(self.prepared / "images" / f"{index}.png")
        self.whole = {}

    def run(self, root, disk=None):
        return self._predict(root, disk=disk)

    def retry(self, root):
        return self._predict(root, "--resume")

    def read(self, root):
        out = root / "scores.csv"
        rows = out.read_bytes().replace(str(root).encode(), b"") if out.exists() else b""
        return {"scores.csv": rows}

    def check(self, root, found):
        """The rows that are there are those of the whole table; the last one may be cut off."""
        return (
            [] if self.whole["scores.csv"].startswith(found["scores.csv"]) else ["scores.csv has other rows"]
        )

    def _predict(self, root, *more, disk=None):
        images = [root / "images" / f"{index}.png" for index in range(IMAGES)]
        arguments = ["predict", root / "run", *images, "--out", root / "scores.csv", "--workers", 1, *more]
        return invoke(root, *arguments, disk=disk)


COMMANDS = {"train": Training, "eval": Evaluation, "predict": Prediction}


def require(done):
    """A command that is to go well."""
    if done.exit_code:
        raise RuntimeError(done.output) from done.exception


def run(name, *, parent, way=ONCE, step=1, first=1):
    """Fails the operations of a command; yields a trial for each."""
    command = COMMANDS[name](parent)
    whole = shutil.copytree(command.prepared, parent / "whole" / "root")
    disk = Disk(whole)
    require(command.run(whole, disk))
    command.whole = command.read(whole)
    for at in range(first, len(disk.operations) + 1, step):
        root = shutil.copytree(command.prepared, parent / str(at) / "root")
        yield try_once(command, root, Disk(root, at, *way))
        shutil.rmtree(root.parent)


def try_once(command, root, disk):
    """Runs a command on a disk that fails, and once more on one that does not."""
    done = command.run(root, disk)
    outcome, faults = evaluate(done)
    found = command.read(root)
    if could_not_remove(disk):
        found = leave_out_passing(found)
    faults += command.check(root, {name: found[name] for name in found.keys() - LOCKS})
    if done.exit_code:
        again = command.retry(root)
        if again.exit_code:
            faults.append(f"the next try failed: {again.output} {again.exception!r}")
        found = command.read(root)
        if could_not_remove(disk) and not command.holds_folder:
            found = leave_out_passing(found)
    faults += compare(found, command.whole) + check_manifest(root / "run")
    return Trial((disk.fail_at, *disk.get_failed()), outcome, done.stderr, faults)


def start_toys():
    """The toy network, where no test has put it."""
    from pneumo_keras.runtime import backend

    backend.start_backend(Path(tempfile.gettempdir()) / "operations-programs")
    backend.start_backend = lambda cache: None
    from pneumo_keras.recipes import network
    from tests.toy import build_toy_backbone

    network.build_backbone = build_toy_backbone


if __name__ == "__main__":
    start_toys()
    name, way, step, first = [*sys.argv[1:], "1", "1"][:4]
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for trial in run(name, parent=Path(folder), way=WAYS[way], step=int(step), first=int(first)):
            counts[trial.outcome] += 1
            counts["faulty"] += bool(trial.faults)
            print(trial.at, trial.outcome, trial.said, *trial.faults, sep="\n    ", flush=True)  # noqa: T201
    print(dict(counts))  # noqa: T201
