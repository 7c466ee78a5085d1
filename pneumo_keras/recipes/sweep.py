"""Settings compared on training and validation images."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np

from pneumo_keras.arrays import Features, Labels
from pneumo_keras.config import Config, change_config, find_cache, format_config, resolve_paths
from pneumo_keras.config.grid import Grid, group_combinations
from pneumo_keras.config.settings import FeatureLayer
from pneumo_keras.data.hashes import load_hashes
from pneumo_keras.data.images import JoinedImages
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
from pneumo_keras.model.head import Moments
from pneumo_keras.recipes.adapters import (
    build_heads,
    list_fitted_views,
    list_perturbed_views,
    to_fit_config,
)
from pneumo_keras.recipes.images import Split, open_data, open_splits
from pneumo_keras.recipes.network import build_extractor, build_frozen
from pneumo_keras.reporting.sweep import write_sweep, write_sweep_plot
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.files import claim_folder
from pneumo_keras.training.cross_validation import compute_fold_moments, cross_validate
from pneumo_keras.training.folds import Folds, draw_folds

log = logging.getLogger("pneumo_keras")

MEMBERS_AT_ONCE = 100  # heads that a sweep fits at the same time


def sweep_settings(config: Config, grid: Grid, folder: Path, *, folds: int) -> list[Candidate]:
    """Cross-validates all combinations of a grid on training and validation images together.

    The test split is not opened. Everything is written anew after each group of combinations that
    are fitted at once, so that a sweep that is stopped leaves what it found.

    Args:
        config: What all combinations share.
        grid: Values by dotted key.
        folder: Where table, picture and best settings are written.
        folds: Of the cross-validation.

    Returns:
        All candidates, the best first.

    Raises:
        SettingsError: A combination would let blocks of the network learn.
    """
    groups = group_combinations(config, grid, at_once=max(1, MEMBERS_AT_ONCE // folds))
    for shared, _ in groups:
        if block := shared.training.unfreeze_from:
            raise SettingsError(
                "A sweep compares heads on the frozen network: training.unfreeze_from must be unset. "
                f"Received: {block}. Sweep first, then train the best settings with it"
            )
    with claim_folder(folder, option="--out"):
        resolved = resolve_paths(config)
        data = open_data(resolved)
        splits = open_splits(data, ("train", "val"))
        both = JoinedImages([split.images for split in splits.values()])
        held_out = hold_out(splits, folds=folds, seed=config.seed)
        title = f"{folds} folds of {len(both):,} training and validation images of {data.card.title}"
        networks = build_networks(resolved, [shared for shared, _ in groups], splits)
        loaded: dict[Any, SweptFeatures] = {}
        ranked: list[Candidate] = []
        with show_progress("Sweep", sum(len(group) for _, group in groups), "combinations") as progress:
            for shared, group in groups:
                model = shared.model
                seen = (model.image_size, model.feature_layers, shared.augmentation, model.flip_average)
                if seen not in loaded:
                    loaded = {seen: load_swept_features(shared, networks[model.image_size], splits, held_out)}
                ranked = rank([*ranked, *validate_group(shared, group, loaded[seen], both.labels, held_out)])
                write_candidates(folder, config, ranked, title=title)
                progress.advance(len(group))
        write_sweep_plot(folder, ranked, title=title)
    return ranked


def hold_out(splits: Mapping[str, Split], *, folds: int, seed: int) -> Folds:
    """The fold in which each image of some splits is held out, together with all others of its patient."""
    parts = splits.values()
    patients = [patient for part in parts for patient in part.patients or ("",) * len(part.images)]
    held_out = draw_folds(
        np.concatenate([part.images.labels for part in parts]),
        np.concatenate([load_hashes(part.images, find_cache()) for part in parts]),
        patients,
        folds=folds,
        seed=seed,
    )
    if known := len(set(patients) - {""}):
        log.info(
            "%s images of %s patients, and %s of unknown ones, lie in %s folds: no patient in two of them",
            f"{len(patients) - patients.count(''):,}",
            f"{known:,}",
            f"{patients.count(''):,}",
            folds,
        )
    return held_out


def build_networks(
    config: Config, shares: Sequence[Config], splits: Mapping[str, Split]
) -> dict[int, Extractor]:
    """For each image size the network up to all feature layers that any combination has there.

    Args:
        config: With the paths of this machine.
        shares: What the combinations of each group share.
        splits: The images, whose features must find room.
    """
    by_size: dict[int, list[Config]] = {}
    for shared in shares:
        by_size.setdefault(shared.model.image_size, []).append(shared)
    networks = {}
    for size, alike in by_size.items():
        sized = change_config(config, {"model.image_size": size})
        networks[size] = build_extractor(sized, build_frozen(sized, list_feature_layers_of(alike)))
        by_views = {(shared.augmentation, shared.model.flip_average): list_views(shared) for shared in alike}
        for views in by_views.values():
            networks[size].check_room([(split.images, views) for split in splits.values()])
    return networks


def list_feature_layers_of(configs: Sequence[Config]) -> list[str]:
    """All feature layers that any of the configurations has, in the order of the network."""
    return [
        feature_layer
        for feature_layer in get_args(FeatureLayer)
        if any(feature_layer in config.model.feature_layers for config in configs)
    ]


def write_candidates(folder: Path, config: Config, ranked: Sequence[Candidate], *, title: str) -> None:
    """Writes the table, and the configurations of the best and of the cheapest candidate."""
    chosen = {"best": ranked[0], "cheapest": choose_cheapest(ranked)}
    configs = {name: (one, format_config(change_config(config, one.values))) for name, one in chosen.items()}
    write_sweep(folder, ranked, configs, title=title)


@dataclass(frozen=True)
class SweptFeatures:
    """What the combinations of a group are fitted and evaluated on.

    Attributes:
        views: Features of all images (n, d), held in memory, in each view that is trained on.
        evaluated: The same in each view that is scored: of the images as they are, and perturbed.
        moments: Of the views outside each fold.
        operations: That the network takes to score an image.
    """

    views: list[Features]
    evaluated: dict[str, list[Features]]
    moments: tuple[Moments, Moments]
    operations: int


def list_evaluated_ways(config: Config) -> dict[str, list[View]]:
    """How images are seen that are scored, as they are and perturbed."""
    flip = config.model.flip_average
    return {PLAIN: list_evaluated_views(flip), PERTURBED: list_perturbed_views(config, flip_average=flip)}


def list_views(config: Config) -> list[View]:
    """All ways in which images are seen, for the fit or for the scores."""
    return [*list_fitted_views(config), *itertools.chain(*list_evaluated_ways(config).values())]


def load_swept_features(
    config: Config, extractor: Extractor, splits: Mapping[str, Split], held_out: Folds
) -> SweptFeatures:
    """Features of all images in memory, in the views that are trained on and in those that are scored."""

    def load(view: View) -> Features:
        tables = [extractor.extract(split.images, split.title, view) for split in splits.values()]
        return np.concatenate([table.select(config.model.feature_layers)[:] for table in tables])

    fitted = [load(view) for view in list_fitted_views(config)]
    return SweptFeatures(
        views=fitted,
        evaluated={way: [load(view) for view in views] for way, views in list_evaluated_ways(config).items()},
        moments=compute_fold_moments(fitted, held_out),
        operations=count_operations(
            select_feature_layers(extractor.frozen.backbone, config.model.feature_layers)
        )
        * len(list_evaluated_views(config.model.flip_average)),
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

    def build(seeds: Sequence[int], moments: tuple[Moments, Moments]) -> keras.Model:
        d = features.views[0].shape[1]
        return build_heads(shared, d, moments if shared.model.standardise else None, seeds)

    found = cross_validate(
        build,
        features.views,
        features.evaluated,
        labels,
        held_out,
        moments=features.moments,
        learning_rates=[one.get("training.learning_rate", training.learning_rate) for one in group],
        weight_decays=[one.get("training.weight_decay", training.weight_decay) for one in group],
        config=to_fit_config(shared),
        batch_size=training.batch_size,
        seed=shared.seed,
    )
    return build_candidates(
        group,
        labels,
        {way: log_odds.astype(np.float64) for way, log_odds in found.log_odds.items()},
        held_out,
        found.kept_epochs,
        operations=features.operations,
        weights=found.weights,
    )
