"""Settings compared on training and validation films."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import SPLIT_NAMES, Features, Labels
from pneumo_keras.config import Config, change_config, format_config, resolve_paths
from pneumo_keras.data.films import JoinedFilms, LabelledFilms
from pneumo_keras.evaluation.ranking import Candidate, build_candidates, choose_simplest, rank
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.store import FeatureTable
from pneumo_keras.files import claim_folder
from pneumo_keras.grid import Grid, group_combinations
from pneumo_keras.progress import show_progress
from pneumo_keras.recipes.films import load_splits, name_films
from pneumo_keras.recipes.heads import build_heads, extract_views
from pneumo_keras.recipes.judging import list_judged_views
from pneumo_keras.recipes.network import build_extractor, build_frozen
from pneumo_keras.reporting.sweep import write_sweep, write_sweep_plot
from pneumo_keras.training.cross_validation import cross_validate
from pneumo_keras.training.folds import Folds, draw_folds

MEMBERS_AT_ONCE = 100  # heads that a sweep fits at the same time


def sweep_settings(config: Config, grid: Grid, folder: Path, *, folds: int) -> list[Candidate]:
    """Cross-validates all combinations of a grid on training and validation films together.

    The test split is not opened. Everything is written anew after each group of combinations that
    are fitted at once, so that a sweep that is stopped leaves what it found.

    Args:
        config: What all combinations share.
        grid: Values by dotted key.
        folder: Where table, picture and best settings are written.
        folds: Of the cross-validation.

    Returns:
        All candidates, the best first.
    """
    groups = group_combinations(resolve_paths(config), grid, at_once=max(1, MEMBERS_AT_ONCE // folds))
    with claim_folder(folder, option="--out"):
        films = load_splits(config, ("train", "val"))
        both = JoinedFilms(list(films.values()))
        held_out = draw_folds(both, folds=folds, seed=config.seed)
        title = f"{folds} folds of {len(both):,} training and validation films of {name_films(config)}"
        extractors: dict[tuple[str, ...], Extractor] = {}
        loaded: dict[Any, SweptFeatures] = {}
        ranked: list[Candidate] = []
        with show_progress("Sweep", sum(len(group) for _, group in groups), "combinations") as progress:
            for shared, group in groups:
                taps = shared.model.taps
                seen = (taps, shared.augmentation, shared.model.flip_average)
                if taps not in extractors:
                    extractors[taps] = build_extractor(shared, build_frozen(shared))
                if seen not in loaded:
                    loaded = {seen: load_swept_features(shared, extractors[taps], films)}
                ranked = rank([*ranked, *validate_group(shared, group, loaded[seen], both.labels, held_out)])
                chosen = {"best": ranked[0], "simplest": choose_simplest(ranked)}
                write_sweep(
                    folder,
                    ranked,
                    {
                        name: (one, format_config(change_config(config, one.values)))
                        for name, one in chosen.items()
                    },
                    title=title,
                )
                progress.advance(len(group))
        write_sweep_plot(folder, ranked, title=title)
        return ranked


@dataclass(frozen=True)
class SweptFeatures:
    """What the combinations of a group are fitted and judged on.

    Attributes:
        views: Features of all films (n, d), held in memory, in each view that is trained on.
        judged: The same in each view that is scored.
        tables: The views as they lie on disk, split by split.
        backbone: That they come from.
    """

    views: list[Features]
    judged: list[Features]
    tables: list[FeatureTable]
    backbone: keras.Model


def load_swept_features(
    config: Config, extractor: Extractor, films: dict[str, LabelledFilms]
) -> SweptFeatures:
    """Features of all films in memory, in the views that are trained on and in those that are scored."""
    by_split = [extract_views(config, extractor, part, split) for split, part in films.items()]
    names = {split: SPLIT_NAMES[split] for split in films}
    judged = [
        np.concatenate([extractor.extract(films[split], name, view)[:] for split, name in names.items()])
        for view in list_judged_views(config)
    ]
    return SweptFeatures(
        views=[np.concatenate([table[:] for table in tables]) for tables in zip(*by_split, strict=True)],
        judged=judged,
        tables=[table for tables in by_split for table in tables],
        backbone=extractor.backbone,
    )


def validate_group(
    shared: Config,
    group: Sequence[dict[str, Any]],
    features: SweptFeatures,
    labels: Labels,
    held_out: Folds,
) -> list[Candidate]:
    """Candidates of combinations that differ in learning rate and weight decay alone."""
    training = shared.training
    found = cross_validate(
        functools.partial(build_heads, shared, features.backbone, features.tables),
        features.views,
        features.judged,
        labels,
        held_out,
        learning_rates=[one.get("training.learning_rate", training.learning_rate) for one in group],
        weight_decays=[one.get("training.weight_decay", training.weight_decay) for one in group],
        epochs=training.epochs,
        batch_size=training.batch_size,
        plateau_factor=training.plateau_factor,
        plateau_patience=training.plateau_patience,
        seed=shared.seed,
    )
    return build_candidates(group, labels, found.log_odds, held_out, found.best_epochs, found.weights)
