"""The images that a recipe works on, and the record of them by which they are recognised."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.config import Config, change_config, find_cache, resolve_paths
from pneumo_keras.data.images import LabelledImages, Preparation, count_classes, hash_labels
from pneumo_keras.data.overlap import Hashes, PerImage, find_new, find_shared, load_hashes
from pneumo_keras.data.sources import SOURCES, DataOptions, DataSet, ImageNames
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.reporting.evaluation_text import describe_sharing
from pneumo_keras.runs.run import Run

log = logging.getLogger("pneumo_keras")

EARLIER = {"train": (), "val": ("train",), "test": ("train", "val")}
"""The splits that a run has learnt from before a split."""


@dataclass(frozen=True)
class Split:
    """The images of `train`, `val` or `test`, with a human-readable title."""

    name: str
    title: str
    images: LabelledImages
    names: ImageNames = field(default_factory=ImageNames)


def open_data(config: Config, preparation: Preparation | None = None) -> DataSet:
    """The images that the settings name, prepared like others if given; no split is opened yet."""
    return SOURCES[config.data.source].open(to_options(config, preparation))


def open_splits(data: DataSet, names: Iterable[str]) -> dict[str, Split]:
    """Some splits by name; the others are not opened."""
    title = data.card.title
    return {
        name: Split(name, f"{SPLIT_NAMES[name]} of {title}", data.open_split(name), data.name_images(name))
        for name in names
    }


def open_evaluated(data: DataSet, name: str) -> Split:
    """One split; of images without splits all as the test split, and DataError for another one."""
    if data.open_all is None:
        return open_splits(data, (name,))[name]
    if name != "test":
        raise DataError(
            f"{data.card.title}: the images come without splits and are evaluated together. Received: "
            f"--split {name}. Leave it out."
        )
    return Split(name, f"images of {data.card.title}", data.open_all(), data.name_images(None))


def compare_patients(data: DataSet, name: str) -> tuple[str, PerImage | None]:
    """How splits up to this one share patients, and which images of this one show new patients.

    The first in sentences, with a warning if this split shares some. The second is False, too, for an image
    whose patient is unknown, and None where no patients are known.
    """
    names = {split: data.name_images(split) for split in (*EARLIER[name], name)}
    earlier = [names[other] for other in EARLIER[name]]
    sentences = {
        split: describe_sharing(split, names[split], {other: names[other] for other in EARLIER[split]})
        for split in names
    }
    shared = find_shared(names[name], earlier)
    if shared is not None and shared.any():
        log.warning("%s: %s", data.card.title, sentences[name])
    return " ".join(filter(None, sentences.values())), find_new(names[name], earlier)


def prepare_images(*, size: int, path: Path | None) -> dict[str, Split]:
    """PneumoniaMNIST's training and validation images, prepared; fetched unless `path` names a file."""
    options = DataOptions(path, size, (0, 0, 0), find_cache())
    return open_splits(SOURCES["pneumonia_mnist"].open(options), ("train", "val"))


def to_options(config: Config, preparation: Preparation | None = None) -> DataOptions:
    """The settings that a source of images takes."""
    limit = int(config.compute.cache_gigabytes * 1e9)
    settings = config.data.model_dump(exclude={"source"})
    return DataOptions(**settings, cache=find_cache(), cache_limit=limit, preparation=preparation)


def describe_split(split: Split) -> dict[str, Any]:
    """Fingerprints and class counts of images and labels."""
    labels = split.images.labels
    return {
        "sha256": split.images.fingerprint(),
        "labels_sha256": hash_labels(labels),
        "class_counts": list(count_classes(labels)),
    }


def describe_splits(data: DataSet, splits: Mapping[str, Split]) -> dict[str, dict[str, Any]]:
    """The same of some splits, with the checksums of their listings if they have any."""
    described = {name: describe_split(split) for name, split in splits.items()}
    if data.hash_listing:
        for name, about in described.items():
            about["listing_sha256"] = data.hash_listing(name)
    return described


def hash_splits(splits: Mapping[str, Split]) -> Hashes:
    """A hash of the pixels of each image, sorted."""
    cache = find_cache()
    return np.unique(np.concatenate([load_hashes(split.images, cache) for split in splits.values()]))


def open_own_data(run: Run, moved: str | None = None) -> tuple[Config, DataSet]:
    """The images that a run was made with, checked to be the same, and its settings with their path.

    Where their listing has not changed, training and validation images are not read, nor those of the
    official file or of phantoms. `moved` is their absolute path now, if it is another one.

    Raises:
        RunError: The path does not exist, or training or validation images or labels are others.
    """
    paths = run.environment["paths"]
    if moved is not None:
        paths = {**paths, "data.path": moved}
    config = resolve_paths(run.config if moved is None else change_config(run.config, paths), paths)
    path = config.data.path
    if path is not None and not os.path.exists(path):  # noqa: PTH110 (never raises)
        raise RunError(
            f"The images that {run.folder.path} was made with must have the same path as then, or that of "
            f"--set data.path=... Received: {path}, which does not exist."
        )
    data = open_data(config, run.preparation)
    in_one_file = data.hash_listing is None
    if path is None or (in_one_file and data.card.files == run.environment["data"]["files"]):
        return config, data
    for name, before in run.environment["images"].items():
        if change := _find_change(before, data, name):
            raise RunError(
                f"{path}: the images that the run learnt from must be as they were. Received: {change}. "
                "Train again, or name images that it was not trained on with --data."
            )
    return config, data


def _find_change(before: Mapping[str, Any], data: DataSet, split: str) -> str:
    """How images or labels of a split differ from the record of them; "" if they do not."""
    if data.hash_listing:
        try:
            listing_sha256 = data.hash_listing(split)
        except DataError as error:
            return f"no {SPLIT_NAMES[split]} ({error})"
        if listing_sha256 == before["listing_sha256"]:
            return ""
    found = describe_split(open_splits(data, (split,))[split])
    n_before, n = sum(before["class_counts"]), sum(found["class_counts"])
    if n_before != n:
        return f"{n:,} {SPLIT_NAMES[split]}, {n_before:,} then"
    if found["sha256"] != before["sha256"]:
        return f"other {SPLIT_NAMES[split]}, or the same in another order"
    same = found["labels_sha256"] == before["labels_sha256"]
    return "" if same else f"{SPLIT_NAMES[split]} with other labels"
