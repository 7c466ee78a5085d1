"""The images that a run was made with: what is noted of them, and whether they are still the same."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.config import Config, change_config, find_cache, resolve_paths
from pneumo_keras.data.hashes import load_hashes
from pneumo_keras.data.images import count_classes, hash_labels
from pneumo_keras.data.sources import DataSet
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.recipes.images import Split, open_data, open_splits
from pneumo_keras.runs.finished import FinishedRun
from pneumo_keras.runs.folder import SEEN_IMAGES, RunFolder
from pneumo_keras.runs.seen_images import load_seen_images

log = logging.getLogger("pneumo_keras")

LEARNT = ("train", "val")
"""The splits that a run learns from."""


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
    if data.list_split:
        for name, about in described.items():
            about["listing_sha256"] = data.list_split(name).sha256
    return described


def write_seen_images(folder: RunFolder, splits: Mapping[str, Split]) -> None:
    """Writes a hash of each image of these splits, by which it is known wherever it lies."""
    cache = find_cache()
    seen = np.unique(np.concatenate([load_hashes(split.images, cache) for split in splits.values()]))
    folder.write_with(SEEN_IMAGES, lambda path: np.save(path, seen))


def count_seen_images(folder: RunFolder, split: Split) -> int:
    """How many of these images the run has seen, by their pixels."""
    seen = load_seen_images(folder.verify(SEEN_IMAGES))
    return int(np.isin(load_hashes(split.images, find_cache()), seen).sum())


def open_own_data(folder: RunFolder, run: FinishedRun, moved: str | None = None) -> tuple[Config, DataSet]:
    """The images that a run was made with, where they lie now.

    Args:
        folder: Of the run.
        run: With the places that were noted.
        moved: Where they lie now, absolute, if they were moved.

    Returns:
        The settings with the paths of this machine, and the images; no split is opened yet.

    Raises:
        RunError: There is nothing at that place.
    """
    noted = run.environment.get("paths", {})
    if moved is not None:
        noted = {**noted, "data.path": moved}
    config = resolve_paths(run.config if moved is None else change_config(run.config, noted), noted)
    if config.data.path is not None and not os.path.exists(config.data.path):  # noqa: PTH110 (never raises)
        raise RunError(
            f"The images that {folder.path} was made with must lie where they lay then, or where --set "
            f"data.path=... says. Received: {config.data.path}, where there is nothing."
        )
    return config, open_data(config, run.preparation)


def check_unchanged(run: FinishedRun, config: Config, data: DataSet) -> None:
    """Checks that the images a run learnt from are as they were, so that none of them is evaluated as unseen.

    Where their listing is as it was they are not read. Images of the official file and phantom images are
    what the settings say.

    Args:
        run: With what was noted of them.
        config: With the place of the images.
        data: What lies there now.

    Raises:
        RunError: There are other images now, or other labels.
    """
    noted = run.environment.get("images", {})
    files = run.environment.get("data", {}).get("files")
    if config.data.path is None or (data.list_split is None and data.card.files == files):
        return
    for split in LEARNT:
        if split in noted and (change := _find_change(noted[split], data, split)):
            raise RunError(
                f"{config.data.path}: the images that the run learnt from must be as they were. Received: "
                f"{change}. Train again, or name images that it was not trained on with --data."
            )


def _find_change(noted: Mapping[str, Any], data: DataSet, split: str) -> str:
    if data.list_split:
        try:
            listing = data.list_split(split)
        except DataError as error:
            return f"no {SPLIT_NAMES[split]} ({error})"
        if listing.sha256 == noted.get("listing_sha256"):
            return ""
        then, now = sum(noted["class_counts"]), sum(listing.class_counts)
        if then != now:
            return f"{now:,} {SPLIT_NAMES[split]}, {then:,} then"
    found = describe_split(open_splits(data, (split,))[split])
    if found["sha256"] != noted["sha256"]:
        return f"other {SPLIT_NAMES[split]}, or the same in another order"
    return (
        f"{SPLIT_NAMES[split]} with other labels" if found["labels_sha256"] != noted["labels_sha256"] else ""
    )
