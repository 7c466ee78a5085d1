"""What damaged inputs are tried on: a reader for each kind, and what a result of it says."""

import io
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_keras.arrays import SPLITS
from pneumo_keras.config import list_paths, load_config
from pneumo_keras.recipes.compare import compare_runs
from pneumo_keras.runs.folder import RunFolder, extend_manifest
from pneumo_keras.runs.run import load_run
from pneumo_keras.storage.documents import to_document
from tests.fuzz import mutators
from tests.images import load_archive

DOCUMENTS = ("operating_point.json", "calibration.json", "environment.json", "metrics_val.json")
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1)).astype(np.float32)


@dataclass(frozen=True)
class NpzTarget:
    data: bytes
    path: Path

    def damage(self, data, random):
        if random.random() < 0.4:
            return mutators.damage_bytes(data, random)
        return mutators.damage_zip(data, random, mutators.damage_npy)

    def read(self, data):
        self.path.write_bytes(data)
        splits = [load_archive(self.path, split, size=28) for split in SPLITS]
        return [(images.images.tobytes(), images.labels.tolist()) for images in splits]

    def is_right(self, data, result):
        """Whether NumPy reads the same."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = [(file[f"{split}_images"], file[f"{split}_labels"]) for split in SPLITS]
        return result == [(images.tobytes(), labels.ravel().tolist()) for images, labels in arrays]


@dataclass(frozen=True)
class SettingsTarget:
    data: str
    path: Path

    def damage(self, data, random):
        return mutators.damage_toml(data, random) if isinstance(data, str) else data

    def read(self, data):
        self.path.write_bytes(data if isinstance(data, bytes) else data.encode())
        config = load_config(str(self.path))
        list_paths(config)
        return config.model_dump(mode="json")

    def is_right(self, data, result):
        """Whether tomllib reads the same of all that the file sets, and the rest is as nobody set it."""
        tree = tomllib.loads(data.decode())
        unset = load_config("demo").__class__.model_validate({}).model_dump(mode="json")
        return all(
            _is_same(value, tree[key] if key in tree else unset[key])
            if not isinstance(value, dict)
            else all(
                _is_same(one, tree.get(key, {}).get(name, unset[key][name])) for name, one in value.items()
            )
            for key, value in result.items()
        )


def _is_same(taken: Any, written: Any) -> bool:
    if isinstance(taken, bool):
        return taken is written
    if isinstance(taken, list) and isinstance(written, str):
        return taken == [written]
    if isinstance(taken, str) and not isinstance(written, str):
        return type(written) is int and taken == str(written)
    if isinstance(taken, int | float) and isinstance(written, str):  # "3" is taken for 3
        return math.isclose(taken, float(written))
    return taken == written


def write(folder: Path, name: str, content: bytes) -> None:
    """As by somebody who changes the manifest, too: what is read must be checked all the same."""
    (folder / name).write_bytes(content)
    extend_manifest(folder, [name])


@dataclass(frozen=True)
class ClassifierTarget:
    data: bytes
    path: Path
    """The folder of a run."""

    def damage(self, data, random):
        if random.random() < 0.25:
            return mutators.damage_bytes(data, random)
        return mutators.damage_zip(data, random, mutators.damage_model_member)

    def read(self, data):
        write(self.path, "model.keras", data)
        return np.asarray(load_run(self.path).classifier.join().predict_on_batch(IMAGES)).ravel().tolist()

    def is_right(self, data, result):
        """Never: one model has one result."""
        return False


@dataclass(frozen=True)
class ScoresTarget:
    data: str
    path: Path
    """The folder of a run."""
    other: Path
    """The folder of the run that it is compared with."""

    def damage(self, data, random):
        return mutators.damage_csv(data, random)

    def read(self, data):
        content = data if isinstance(data, bytes) else data.encode()
        write(self.path, "scores_val.csv", content)
        return _compare(self.other, self.path)

    def is_right(self, data, result):
        """Never: one evaluation has one comparison."""
        return False


@dataclass(frozen=True)
class DocumentsTarget:
    data: dict[str, bytes]
    path: Path
    other: Path

    def damage(self, data, random):
        name = random.choice(DOCUMENTS)
        return {**data, name: mutators.damage_json(data[name].decode(), random)}

    def read(self, data):
        for name, content in data.items():
            write(self.path, name, content)
        run = load_run(self.path)
        point, calibration = run.operating_point, run.calibration
        used = (point.threshold, calibration.slope, calibration.intercept, calibration.prevalence)
        told = (point.describe_rule(), point.counts, calibration.method)
        images = {name: about["class_counts"] for name, about in run.environment.get("images", {}).items()}
        return (used, told, images, _compare(self.other, self.path))

    def is_right(self, data, result):
        """Never: one run has one operating point."""
        return False


def _compare(first, second):
    (found,) = compare_runs(RunFolder(first), [RunFolder(second)], "val")
    return {name: to_document(one) for name, one in found.differences.items()}
