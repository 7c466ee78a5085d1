"""A run evaluated on perturbed images, kind by kind."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pneumo_keras.data.corruptions import CORRUPTIONS, CorruptedImages
from pneumo_keras.data.image_preparation import ResizedImages
from pneumo_keras.data.images import JoinedImages, LabelledImages
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.robustness import (
    Robustness,
    ScoredImages,
    to_kind,
    to_perturbed_figures,
    to_robustness,
)
from pneumo_keras.features.views import PERTURBATIONS, PLAIN, View, build_severities_view
from pneumo_keras.recipes.images import Split
from pneumo_keras.runtime.progress import show_progress

log = logging.getLogger("pneumo_keras")

Kind = tuple[Sequence[float], Split, View]
"""Parameters of its severities; the images of one severity after the other; their view."""


def list_kinds(split: Split, *, seed: int) -> dict[str, Kind]:
    """All kinds of perturbation by name, each with the images of a split in all severities."""
    n, kinds = len(split.images), {}
    for name, corruption in CORRUPTIONS.items():
        severities = range(1, 1 + len(corruption.parameters))
        images = JoinedImages([_corrupt_images(split.images, name, one, seed=seed) for one in severities])
        seen = replace(split, images=images, title=f"{split.title}, {name}")
        kinds[name] = corruption.parameters, seen, PLAIN
    for name, (_, parameters) in PERTURBATIONS.items():
        images = JoinedImages([split.images] * len(parameters))
        view = build_severities_view(name, n=n, seed=seed)
        kinds[name] = parameters, replace(split, images=images), view
    return kinds


def _corrupt_images(images: LabelledImages, kind: str, severity: int, *, seed: int) -> LabelledImages:
    """The images with corrupted pixels: of those that are prepared as they are read, before that."""
    if isinstance(images, ResizedImages):
        return replace(images, images=_corrupt_images(images.images, kind, severity, seed=seed))
    return CorruptedImages(images, kind, severity, seed)


def measure_robustness(
    split: Split,
    kinds: Mapping[str, Kind],
    score: Callable[[Split, View], ScoredImages],
    *,
    threshold: float,
    shift: PrevalenceShift | None,
    seed: int,
) -> Robustness:
    """Evaluates a split in every kind and severity of perturbation.

    The threshold is that before a shift to a stated prevalence.
    """
    labels, started, found = split.images.labels, time.monotonic(), {}
    options = {"threshold": threshold, "shift": shift}
    log.addFilter(_is_wanted)
    try:
        with show_progress("Kinds of perturbation", len(kinds), "kinds") as progress:
            plain = score(split, PLAIN)
            for name, (parameters, seen, view) in kinds.items():
                parts = (np.split(array, len(parameters)) for array in vars(score(seen, view)).values())
                severities = [ScoredImages(*one) for one in zip(*parts, strict=True)]
                figures = [to_perturbed_figures(labels, one, plain, **options) for one in severities]
                found[name] = to_kind(name, parameters, figures)
                progress.advance(1)
    finally:
        log.removeFilter(_is_wanted)
    log.info(
        "Perturbations: %d kinds in five severities each, %.1f s", len(kinds), time.monotonic() - started
    )
    return to_robustness(to_perturbed_figures(labels, plain, plain, **options), found, seed=seed)


def _is_wanted(record: logging.LogRecord) -> bool:
    """All lines except those on each view by `Extractor`: there are dozens of views."""
    return record.levelno > logging.INFO or not str(record.msg).startswith("Features of %s: ")
