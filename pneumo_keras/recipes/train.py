"""A training, from films to the folder of a run."""

import functools
from collections.abc import Mapping
from typing import Any

from pneumo_keras.config import Config, list_paths, resolve_paths
from pneumo_keras.data.sources import DataSet
from pneumo_keras.evaluation.report_card import Judgement
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.guard import fit_guard
from pneumo_keras.model.classifier import Classifier, save_classifier
from pneumo_keras.model.fingerprint import compute_fingerprint
from pneumo_keras.model.head import build_decision
from pneumo_keras.recipes.films import Split, open_data, open_splits
from pneumo_keras.recipes.heads import fit_heads, list_fitted_views, list_judged_views, weigh_classes
from pneumo_keras.recipes.judging import (
    calibrate,
    choose_threshold,
    compute_log_odds,
    decide,
    judge_members,
    write_scores,
)
from pneumo_keras.recipes.network import build_extractor, build_frozen
from pneumo_keras.recipes.own_films import describe_splits, write_seen_films
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.normal_films import choose_normal_films, save_normal_films


def train_run(config: Config, folder: RunFolder) -> Judgement:
    """Fits a head on the frozen network and writes the run's folder.

    Returns:
        The figures on the validation split. The test split is not opened.
    """
    with folder.writing(config):
        paths = list_paths(config)
        config = resolve_paths(config, paths)
        data = open_data(config)
        splits = open_splits(data, ("train", "val"))
        class_weights = weigh_classes(splits["train"])
        frozen = build_frozen(config)
        extractor = build_extractor(config, frozen)
        head, history = fit_heads(config, extractor, splits, class_weights)
        flip_average = config.model.flip_average
        log_odds = compute_log_odds(extractor, head, splits["val"], list_judged_views(flip_average))
        calibration = calibrate(config, splits["val"], log_odds)
        decision = build_decision(slope=calibration.slope, intercept=calibration.intercept)
        to_scores = functools.partial(decide, decision)
        scores = to_scores(log_odds)
        point = choose_threshold(config, splits["val"], scores)
        judgement = judge_members(config, splits["val"], log_odds, to_scores, point)
        guard = fit_guard(
            extractor.extract(splits["train"].films, splits["train"].title, list_fitted_views(config)[0]),
            extractor.extract(splits["val"].films, splits["val"].title),
        )
        about = describe_run(data, splits, extractor, class_weights)
        folder.write_table("history.csv", history.epochs)
        folder.write_json("calibration.json", calibration)
        folder.write_json("operating_point.json", point)
        folder.write_json("environment.json", {**about, "paths": paths})
        write_seen_films(folder, splits)
        write_scores(folder, splits["val"], scores, judgement)
        normal = splits["val"].films.read(choose_normal_films(splits["val"].films.labels, scores))
        folder.write_with(folder.normal_films_file.name, functools.partial(save_normal_films, films=normal))
        classifier = Classifier(frozen, head, decision, flip_average)
        folder.write_with(folder.guard_file.name, guard.save)
        folder.write_with("model.keras", functools.partial(save_classifier, classifier.join()))
        extractor.release()
    return judgement


def describe_run(
    data: DataSet, splits: Mapping[str, Split], extractor: Extractor, class_weights: dict[int, float]
) -> dict[str, Any]:
    """Everything beside the settings that a result depends on."""
    card = data.card
    return {
        **describe_environment(),
        "extractor": extractor.about,
        "weights_sha256": compute_fingerprint(extractor.frozen.backbone),
        "data": {"title": card.title, "notice": card.notice, "files": dict(card.files)},
        "films": describe_splits(data, splits),
        "class_weights": class_weights,
    }
