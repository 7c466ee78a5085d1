"""PneumoniaMNIST: located, verified, prepared once, read split by split."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.data.pneumonia_mnist.catalog import (
    CLASS_COUNTS,
    PARTIAL_TRAIN_COUNTS,
    Release,
    load_release,
)
from pneumo_keras.data.pneumonia_mnist.source import Source, locate_source, to_medmnist_folder
from pneumo_keras.errors import DataError

log = logging.getLogger("pneumo_keras")

ClassCounts = Mapping[str, Sequence[int]]


def load_pneumonia_mnist(
    splits: Sequence[str],
    *,
    size: int,
    path: Path | None,
    cache: Path,
    folder: Path | None = None,
    release: Release | None = None,
) -> dict[str, LabelledFilms]:
    """The asked splits of PneumoniaMNIST, in the order of the file.

    Args:
        splits: Any of train, val and test. The others are not opened.
        size: Height and width of the films in pixels: 28, 64, 128 or 224.
        path: A file of the user's own; without it medmnist's copy is used, or the network.
        cache: The folder below which the prepared films are kept.
        folder: Where medmnist keeps its files, if not in `~/.medmnist`.
        release: The published file, if not the one that medmnist names.

    Raises:
        DataError: The file is missing or breaks a rule.
        DownloadError: There is no file, and none could be fetched.
    """
    from pneumo_keras.data.pneumonia_mnist.prepared import load_prepared, read_films

    _check_splits(splits)
    release = release or load_release(size)
    source = locate_source(release, path=path, folder=folder or to_medmnist_folder())
    prepared = {split: load_prepared(source, split, size=size, cache=cache) for split in splits}
    if not source.is_official:
        counts = {split: part.to_class_counts() for split, part in prepared.items()}
        log.warning("%s", to_unofficial_line(source, release, counts))
    return {split: read_films(part) for split, part in prepared.items()}


def to_unofficial_line(source: Source, release: Release, counts: ClassCounts) -> str:
    """What a user must know about results from a file that is not the published one.

    Args:
        source: The file.
        release: The published one.
        counts: Normal and pneumonia films of the splits that are used.
    """
    listed = "; ".join(
        f"{split} {normal:,} normal, {ill:,} pneumonia" for split, (normal, ill) in counts.items()
    )
    return (
        f"{source.path} is not the official {release.title} (its MD5 is {source.md5}, the official "
        f"one {release.md5}) and is used as it is: {listed}.{_to_comparability(counts)}"
    )


def _to_comparability(counts: ClassCounts) -> str:
    official = ", ".join(f"{sum(CLASS_COUNTS[split]):,}" for split in counts)
    found = ", ".join(f"{sum(pair):,}" for pair in counts.values())
    if tuple(counts.get("train", ())) == PARTIAL_TRAIN_COUNTS:
        what = "It is the popular partial copy with 3,882 training films (388 normal)"
    elif found != official:
        what = f"It holds {found} films there, the official one {official}"
    else:
        return ""
    return f" {what}: results are not comparable with published ones."


def _check_splits(splits: Sequence[str]) -> None:
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise DataError(f"A split must be one of {', '.join(SPLITS)}. Received: {', '.join(unknown)}.")
