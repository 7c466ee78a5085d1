"""Which images a job works on, and what is recorded of them to know them again."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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

LEARNT_BEFORE = {"train": (), "val": ("train",), "test": ("train", "val")}
"""The splits whose patients a run knows by the time that it comes to a split."""


@dataclass(frozen=True)
class Split:
    """The images of one split.

    Attributes:
        name: `train`, `val` or `test`.
        title: For people, with the source of the images.
        images: With their labels.
        names: Their files and patients, where known.
    """

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
    """One split, or all images as the test split where they come without splits.

    Raises:
        DataError: Another split is asked for where there are none.
    """
    if data.open_whole is None:
        return open_splits(data, (name,))[name]
    if name != "test":
        raise DataError(
            f"{data.card.title}: the images come without splits and are evaluated together. Received: "
            f"--split {name}. Leave it out."
        )
    return Split(name, f"images of {data.card.title}", data.open_whole(), data.name_images(None))


def find_new_patients(data: DataSet, name: str) -> PerImage | None:
    """Which images of a split show patients of whom the splits before it hold no image.

    False, too, for an image whose patient is unknown; None where nothing is known of that.
    """
    return find_new(data.name_images(name), [data.name_images(other) for other in LEARNT_BEFORE[name]])


def tell_shared_patients(data: DataSet, name: str) -> DataSet:
    """The data with a card that says how splits up to this one share patients; a warning if this one does."""
    opened = list(LEARNT_BEFORE)[: list(LEARNT_BEFORE).index(name) + 1]
    names = {split: data.name_images(split) for split in opened}
    said = {
        split: describe_sharing(split, names[split], {other: names[other] for other in LEARNT_BEFORE[split]})
        for split in opened
    }
    shared = find_shared(names[name], [names[other] for other in LEARNT_BEFORE[name]])
    if shared is not None and shared.any():
        log.warning("%s: %s", data.card.title, said[name])
    return replace(data, card=replace(data.card, patients=" ".join(filter(None, said.values()))))


def prepare_images(*, size: int, path: Path | None) -> dict[str, Split]:
    """PneumoniaMNIST's training and validation images, fetched unless a file is named, and prepared."""
    options = DataOptions(path, size, (0, 0, 0), find_cache())
    return open_splits(SOURCES["pneumonia_mnist"].open(options), ("train", "val"))


def to_options(config: Config, preparation: Preparation | None = None) -> DataOptions:
    """What the settings say of the images."""
    data = config.data
    return DataOptions(
        path=data.path,
        size=data.size,
        phantom_images=data.phantom_images,
        cache=find_cache(),
        cache_limit=int(config.compute.cache_gigabytes * 1e9),
        positive=data.positive,
        preparation=preparation,
        patient_pattern=data.patient_pattern,
    )


def describe_split(split: Split) -> dict[str, Any]:
    """What tells these images and labels from others."""
    labels = split.images.labels
    return {
        "sha256": split.images.fingerprint(),
        "labels_sha256": hash_labels(labels),
        "class_counts": list(count_classes(labels)),
    }


def describe_splits(data: DataSet, splits: Mapping[str, Split]) -> dict[str, dict[str, Any]]:
    """The same of some splits, with the checksums of their listings where there are any."""
    described = {name: describe_split(split) for name, split in splits.items()}
    if data.hash_listing:
        for name, about in described.items():
            about["listing_sha256"] = data.hash_listing(name)
    return described


def hash_splits(splits: Mapping[str, Split]) -> Hashes:
    """A hash of each image of these splits, by which it is known wherever it lies."""
    cache = find_cache()
    return np.unique(np.concatenate([load_hashes(split.images, cache) for split in splits.values()]))


def open_own_data(run: Run, moved: str | None = None) -> tuple[Config, DataSet]:
    """The images that a run was made with, where they lie now, once they are known to be the same.

    Where their listing is as it was, training and validation images are not read. Images of the official
    file and phantom images are what the settings say. If they were moved, the new place is absolute.

    Returns:
        The settings with the paths of this machine, and the images; no split is opened yet.

    Raises:
        RunError: There is nothing at that place, or training or validation images or labels are others.
    """
    paths = run.environment["paths"]
    if moved is not None:
        paths = {**paths, "data.path": moved}
    config = resolve_paths(run.config if moved is None else change_config(run.config, paths), paths)
    place = config.data.path
    if place is not None and not os.path.exists(place):  # noqa: PTH110 (never raises)
        raise RunError(
            f"The images that {run.folder.path} was made with must lie where they lay then, or where --set "
            f"data.path=... says. Received: {place}, where there is nothing."
        )
    data = open_data(config, run.preparation)
    in_one_file = data.hash_listing is None
    if place is None or (in_one_file and data.card.files == run.environment["data"]["files"]):
        return config, data
    for name, before in run.environment["images"].items():
        if change := _find_change(before, data, name):
            raise RunError(
                f"{place}: the images that the run learnt from must be as they were. Received: "
                f"{change}. Train "
                "again, or name images that it was not trained on with --data."
            )
    return config, data


def _find_change(before: Mapping[str, Any], data: DataSet, split: str) -> str:
    """In what images or labels of a split differ from what was recorded; "" where they are the same."""
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
