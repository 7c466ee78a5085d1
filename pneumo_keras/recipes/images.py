"""Which images a job works on."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.config import Config, find_cache
from pneumo_keras.data.images import LabelledImages, Preparation
from pneumo_keras.data.patients import PerImage, find_new, find_shared
from pneumo_keras.data.sources import SOURCES, DataOptions, DataSet
from pneumo_keras.errors import DataError
from pneumo_keras.reporting.evaluation_text import describe_sharing

log = logging.getLogger("pneumo_keras")

LEARNT_BEFORE = {"train": (), "val": ("train",), "test": ("train", "val")}
"""The splits whose patients are no news to a run by the time that it comes to a split."""


@dataclass(frozen=True)
class Split:
    """The images of one split.

    Attributes:
        name: `train`, `val` or `test`.
        title: The same for people, with what the images are.
        images: With their labels.
        files: Name of the file of each image, as its user knows it; None where all lie in one, or in none.
        patients: Whose image it is, "" where that is unknown; None where nothing is known of any.
    """

    name: str
    title: str
    images: LabelledImages
    files: tuple[str, ...] | None = None
    patients: tuple[str, ...] | None = None


def open_data(config: Config, preparation: Preparation | None = None) -> DataSet:
    """The images that the settings name; no split is opened yet.

    Args:
        config: The settings.
        preparation: Of the images that they are to be like; None where they are the first.
    """
    return SOURCES[config.data.source].open(to_options(config, preparation))


def open_splits(data: DataSet, names: Iterable[str]) -> dict[str, Split]:
    """Some splits by name; the others are not opened."""
    return {name: _open_split(data, name) for name in names}


def _open_split(data: DataSet, name: str) -> Split:
    images, known = data.open_split(name), data.name_images(name)
    return Split(name, f"{SPLIT_NAMES[name]} of {data.card.title}", images, known.files, known.patients)


def open_evaluated(data: DataSet, name: str) -> Split:
    """One split, or all images as the test split where they come without splits.

    Raises:
        DataError: Another split is asked for where there are none.
    """
    if data.open_whole is None:
        return open_splits(data, (name,))[name]
    if name != "test":
        raise DataError(
            f"{data.card.title}: the images come without splits and are evaluated together. Received: --split "
            f"{name}. Leave it out."
        )
    images, known = data.open_whole(), data.name_images(None)
    return Split(name, f"images of {data.card.title}", images, known.files, known.patients)


def find_new_patients(data: DataSet, name: str) -> PerImage | None:
    """Which images of a split show patients of whom the splits that a run learns from hold no image.

    Args:
        data: With the splits.
        name: `val`, compared with the training images, or `test`, compared with both.

    Returns:
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


def choose_source(path: Path) -> str:
    """The source that reads images of the user's own."""
    return "pneumonia_mnist" if path.suffix == ".npz" else "folder"


def prepare_images(*, size: int, path: Path | None) -> dict[str, Split]:
    """PneumoniaMNIST's training and validation images, fetched, checked and prepared.

    Args:
        size: Of the images in pixels.
        path: A file of the user's own.
    """
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
