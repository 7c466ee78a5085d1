"""A training, from films to the folder of a run."""

import functools
from typing import Any

from pneumo_keras.config import Config, list_paths, resolve_paths
from pneumo_keras.data.films import LabelledFilms, count_classes
from pneumo_keras.evaluation.report_card import Judgement
from pneumo_keras.features.extract import (
    Extractor,
)
from pneumo_keras.model.backbone import compute_fingerprint
from pneumo_keras.model.classifier import join_classifier
from pneumo_keras.model.head import build_decision
from pneumo_keras.recipes.films import load_splits
from pneumo_keras.recipes.heads import fit_cached, fit_online, weigh_classes
from pneumo_keras.recipes.judging import (
    calibrate,
    choose_threshold,
    compute_log_odds,
    decide,
    describe_calibration,
    judge_members,
    write_scores,
)
from pneumo_keras.recipes.network import build_extractor, build_frozen
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.folder import RunFolder


def train_run(config: Config, folder: RunFolder) -> Judgement:
    """Fits a head on the frozen network and writes the run's folder.

    Returns:
        The figures on the validation split. The test split is not opened.
    """
    with folder.writing(config):
        paths = list_paths(config)
        config = resolve_paths(config, paths)
        films = load_splits(config, ("train", "val"))
        class_weights = weigh_classes(films["train"])
        extractor = build_extractor(config, build_frozen(config))
        fit_run = fit_cached if config.training.mode == "cached" else fit_online
        head, history = fit_run(config, extractor, films, class_weights)
        log_odds = compute_log_odds(config, extractor, head, films["val"], "val")
        scaling = calibrate(config, films["val"], log_odds)
        decision = build_decision(slope=scaling.slope, intercept=scaling.intercept)
        to_scores = functools.partial(decide, decision)
        scores = to_scores(log_odds)
        point = choose_threshold(config, films["val"], scores)
        judgement = judge_members(config, films["val"], log_odds, to_scores, point)
        folder.write_table("history.csv", history.epochs)
        folder.write_json("calibration.json", describe_calibration(scaling, films, log_odds, class_weights))
        folder.write_json("operating_point.json", point)
        about = describe_run(extractor, films, class_weights)
        folder.write_json("environment.json", {**about, "paths": paths})
        write_scores(folder, "val", films["val"], scores, judgement)
        classifier = join_classifier(
            extractor.resize,
            extractor.scale,
            extractor.backbone,
            head,
            decision,
            flip_average=config.model.flip_average,
        )
        folder.write_with("model.keras", classifier.model.save)
    return judgement


def describe_run(
    extractor: Extractor, films: dict[str, LabelledFilms], class_weights: dict[int, float]
) -> dict[str, Any]:
    """Everything beside the settings that a result depends on."""
    return {
        **describe_environment(),
        "extractor": extractor.about,
        "weights_sha256": compute_fingerprint(extractor.backbone),
        "films": {
            split: {"sha256": part.fingerprint, "class_counts": count_classes(part.labels)}
            for split, part in films.items()
        },
        "class_weights": class_weights,
    }
