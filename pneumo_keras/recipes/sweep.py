"""Settings compared on training and validation images."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np

from pneumo_keras.arrays import Features
from pneumo_keras.config import Config, change_config, find_cache, format_config, resolve_paths
from pneumo_keras.config.grid import Grid, group_combinations
from pneumo_keras.config.settings import FeatureLayer
from pneumo_keras.data.overlap import load_hashes
from pneumo_keras.errors import SettingsError
from pneumo_keras.evaluation.ranking import (
    PERTURBED,
    PLAIN,
    Candidate,
    build_candidates,
    choose_cheapest,
    rank,
)
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.views import View, list_evaluated_views
from pneumo_keras.model.backbone import count_operations, select_feature_layers
from pneumo_keras.model.inference import Moments
from pneumo_keras.recipes.extraction import build_extractor, choose_computing
from pneumo_keras.recipes.images import Split, open_data, open_splits
from pneumo_keras.recipes.network import (
    build_frozen,
    build_heads,
    build_network,
    to_fit_config,
)
from pneumo_keras.recipes.views import list_fitted_views, list_perturbed_views
from pneumo_keras.reporting.sweep import write_sweep, write_sweep_plot
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.files import claim_folder
from pneumo_keras.training.cross_validation import FoldedFeatures, Folds, cross_validate, sample_folds

log = logging.getLogger("pneumo_keras")

MEMBERS_AT_ONCE = 100  # heads that a sweep fits at the same time


def sweep_settings(config: Config, grid: Grid, folder: Path, *, folds: int) -> list[Candidate]:
    """Cross-validates all combinations of a grid on training and validation images together.

    The test split is not opened. The results are written after each group of combinations that are fitted at
    once, so that a sweep that is stopped leaves some.

    Returns:
        All candidates, the best first.

    Raises:
        SettingsError: Blocks of the network would learn.
    """
    if block := config.training.unfreeze_from:
        raise SettingsError(
            "A sweep compares heads on the frozen network: training.unfreeze_from must be unset. "
            f"Received: {block}. Sweep first, then train the best settings with it"
        )
    groups = group_combinations(config, grid, at_once=max(1, MEMBERS_AT_ONCE // folds))
    with claim_folder(folder, option="--out"):
        resolved = resolve_paths(config)
        data = open_data(resolved)
        splits = open_splits(data, ("train", "val"))
        held_out = hold_out(splits, folds=folds, seed=config.seed)
        title = f"{folds} folds of {len(held_out):,} training and validation images of {data.card.title}"
        extractors = build_extractors(resolved, [shared for shared, _ in groups], splits)
        loaded: dict[Any, FoldedFeatures] = {}
        ranked: list[Candidate] = []
        with show_progress("Sweep", sum(len(group) for _, group in groups), "combinations") as progress:
            for shared, group in groups:
                model = shared.model
                backbone, extractor = extractors[model.image_size]
                seen = (model.image_size, model.feature_layers, shared.augmentation, model.flip_average)
                if seen not in loaded:
                    loaded = {seen: load_features(shared, extractor, splits, held_out)}
                ranked = rank([*ranked, *validate_group(shared, group, loaded[seen], backbone)])
                chosen = {
                    name: (one, format_config(change_config(config, one.values)))
                    for name, one in (("best", ranked[0]), ("cheapest", choose_cheapest(ranked)))
                }
                write_sweep(folder, ranked, chosen, title=title)
                progress.advance(len(group))
        write_sweep_plot(folder, ranked, title=title)
    return ranked


def hold_out(splits: Mapping[str, Split], *, folds: int, seed: int) -> Folds:
    """The fold in which each image is held out, together with all others of its patient."""
    parts = splits.values()
    patients = [patient for part in parts for patient in part.names.patients or ("",) * len(part.images)]
    held_out = sample_folds(
        np.concatenate([part.images.labels for part in parts]),
        np.concatenate([load_hashes(part.images, find_cache()) for part in parts]),
        patients,
        folds=folds,
        seed=seed,
    )
    if known := len(set(patients) - {""}):
        log.info(
            "%s images of %s patients, and %s of unknown ones, are in %s folds: no patient in two of them",
            f"{len(patients) - patients.count(''):,}",
            f"{known:,}",
            f"{patients.count(''):,}",
            folds,
        )
    return held_out


def build_extractors(
    config: Config, shared_configs: Sequence[Config], splits: Mapping[str, Split]
) -> dict[int, tuple[keras.Model, Extractor]]:
    """For each image size a backbone and an extractor, of all feature layers that any combination has then.

    Checks that the features fit on the disk. `shared_configs` has the settings that each group shares.
    """
    extractors = {}
    for size in dict.fromkeys(shared.model.image_size for shared in shared_configs):
        of_size = [shared for shared in shared_configs if shared.model.image_size == size]
        asked = {layer for shared in of_size for layer in shared.model.feature_layers}
        sized = change_config(config, {"model.image_size": size})
        frozen = build_frozen(sized, [layer for layer in get_args(FeatureLayer) if layer in asked])
        extractor = build_extractor(sized, build_network(frozen.backbone, choose_computing(sized.compute)))
        extractors[size] = frozen.backbone, extractor
        by_views = {
            (shared.augmentation, shared.model.flip_average): [
                *list_fitted_views(shared),
                *itertools.chain.from_iterable(list_scored_views(shared).values()),
            ]
            for shared in of_size
        }
        extractor.check_space(
            [(split.images, views) for views in by_views.values() for split in splits.values()]
        )
    return extractors


def list_scored_views(config: Config) -> dict[str, list[View]]:
    """Views of images that are scored, plain and perturbed."""
    flip = config.model.flip_average
    return {PLAIN: list_evaluated_views(flip), PERTURBED: list_perturbed_views(config, flip_average=flip)}


def load_features(
    config: Config, extractor: Extractor, splits: Mapping[str, Split], held_out: Folds
) -> FoldedFeatures:
    """Features of all images in memory, in the views of the fit and of the scores."""

    def load(view: View) -> Features:
        tables = [extractor.extract(split.images, split.title, view) for split in splits.values()]
        return np.concatenate([table.select(config.model.feature_layers)[:] for table in tables])

    return FoldedFeatures(
        views=[load(view) for view in list_fitted_views(config)],
        evaluated={name: [load(view) for view in views] for name, views in list_scored_views(config).items()},
        labels=np.concatenate([split.images.labels for split in splits.values()]),
        folds=held_out,
    )


def validate_group(
    shared: Config, group: Sequence[dict[str, Any]], features: FoldedFeatures, backbone: keras.Model
) -> list[Candidate]:
    """Candidates of combinations that differ only in learning rate and weight decay."""
    training, model = shared.training, shared.model

    def build(seeds: Sequence[int], moments: tuple[Moments, Moments]) -> keras.Model:
        d = features.views[0].shape[1]
        return build_heads(shared, d, moments if model.standardise else None, seeds)

    found = cross_validate(
        build,
        features,
        config=replace(
            to_fit_config(training),
            learning_rates=[one.get("training.learning_rate", training.learning_rate) for one in group],
            weight_decays=[one.get("training.weight_decay", training.weight_decay) for one in group],
        ),
        batch_size=training.batch_size,
        seed=shared.seed,
    )
    network = select_feature_layers(backbone, model.feature_layers)
    return build_candidates(
        group,
        features.labels,
        {name: log_odds.astype(np.float64) for name, log_odds in found.log_odds.items()},
        features.folds,
        found.kept_epochs,
        operations=count_operations(network) * len(list_evaluated_views(model.flip_average)),
        weights=found.weights,
    )
