"""A training, from images to the folder of a run."""

import functools
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pneumo_keras.arrays import SPLIT_NAMES, Scores
from pneumo_keras.config import Config, list_paths, name_files, resolve_paths
from pneumo_keras.data.sources import DataSet
from pneumo_keras.distributed.process_group import ProcessGroup
from pneumo_keras.evaluation.report_card import Evaluation
from pneumo_keras.features.extract import Extractor, list_versions
from pneumo_keras.features.ood import fit_ood_detector
from pneumo_keras.model.classifier import Classifier, save_classifier
from pneumo_keras.model.fingerprint import compute_fingerprint
from pneumo_keras.model.head import build_decision
from pneumo_keras.recipes.fine_tuning import fine_tune, join_histories, prepare_fine_tuning
from pneumo_keras.recipes.heads import (
    build_heads,
    fit_heads,
    fit_online,
    list_evaluated_views,
    list_fitted_views,
    list_member_seeds,
    share_moments,
    weigh_classes,
)
from pneumo_keras.recipes.images import (
    Split,
    describe_splits,
    find_new_patients,
    hash_splits,
    open_data,
    open_splits,
    tell_shared_patients,
)
from pneumo_keras.recipes.network import build_extractor, build_frozen
from pneumo_keras.recipes.scoring import (
    calibrate,
    choose_threshold,
    compute_log_odds,
    decide,
    evaluate_members,
    write_scores,
)
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.folder import MODEL, NORMAL_IMAGES, OOD_DETECTOR, SEEN_IMAGES, RunFolder
from pneumo_keras.runs.run import choose_normal_images
from pneumo_keras.runtime.backend import count_devices
from pneumo_keras.training.checkpoint import Checkpoint

log = logging.getLogger("pneumo_keras")

CONSTANT = 1e-6  # range of scores that differ by rounding alone


def train_run(
    config: Config,
    folder: RunFolder,
    paths: Mapping[str, str] | None = None,
    *,
    resume: bool = False,
    group: ProcessGroup | None = None,
) -> Evaluation:
    """Fits a head on the frozen network and writes the run's folder.

    Args:
        config: The settings.
        folder: Of the run.
        paths: Where the files lie that the settings name; from the working folder if nothing is said.
        resume: Whether to go on with a run that was begun there.
        group: Processes that share the fit, of which this is the first; all others call `join_fit`.

    Returns:
        The figures on the validation split. The test split is not opened.

    Raises:
        Stopped: Somebody asked for it; the run can be resumed.
    """
    paths = list_paths(config) if paths is None else paths
    with folder.writing(config, paths, resume=resume):
        config = resolve_paths(config, paths)
        data = open_data(config)
        splits = open_splits(data, ("train", "val"))
        data = tell_shared_patients(data, "val")
        class_weights = weigh_classes(splits["train"])
        frozen = build_frozen(config)
        extractor = build_extractor(config, frozen)
        about = describe_run(data, splits, extractor, class_weights)
        checkpoint = Checkpoint(folder.checkpoint_file, to_identity(about, config))
        if group:
            group.check_same("task", checkpoint.belongs_to)
        block = config.training.unfreeze_from
        tuning = prepare_fine_tuning(config, extractor, splits, block) if block else None
        head, history = fit_heads(config, extractor, splits, class_weights, checkpoint, group)
        if tuning:
            second = replace(checkpoint, path=folder.tuning_checkpoint_file)
            frozen, of_blocks = fine_tune(config, tuning, head, splits, class_weights, second)
            history = join_histories(history, of_blocks)
            extractor = build_extractor(config, frozen)
            about["fine_tuned_weights_sha256"] = compute_fingerprint(frozen.backbone)
        flip_average = config.model.flip_average
        log_odds = compute_log_odds(extractor, head, splits["val"], list_evaluated_views(flip_average))
        calibration = calibrate(config, splits["val"], log_odds)
        decision = build_decision(slope=calibration.slope, intercept=calibration.intercept)
        to_scores = functools.partial(decide, decision)
        scores = to_scores(log_odds)
        warn_of_constant(scores)
        point = choose_threshold(config, splits["val"], scores)
        new = find_new_patients(data, "val")
        evaluation = evaluate_members(config, splits["val"], log_odds, to_scores, point, new=new)
        ood_detector = fit_ood_detector(
            extractor.extract(splits["train"].images, splits["train"].title, list_fitted_views(config)[0]),
            extractor.extract(splits["val"].images, splits["val"].title),
        )
        folder.write_table("history.csv", history.epochs)
        folder.write_json("calibration.json", calibration)
        folder.write_json("operating_point.json", point)
        classifier = Classifier(frozen, head, decision, flip_average).join()
        about["classifier_sha256"] = compute_fingerprint(classifier)
        folder.write_json("environment.json", {**about, "paths": dict(paths)})
        folder.write_with(SEEN_IMAGES, functools.partial(np.save, arr=hash_splits(splits)))
        write_scores(folder, splits["val"], scores, evaluation)
        normal = splits["val"].images.read(choose_normal_images(splits["val"].images.labels, scores))
        folder.write_with(NORMAL_IMAGES, functools.partial(np.savez, images=normal))
        folder.write_with(OOD_DETECTOR, ood_detector.save)
        folder.write_with(MODEL, functools.partial(save_classifier, classifier))
    return evaluation


def join_fit(config: Config, group: ProcessGroup) -> None:
    """Fits together with the first process of a group, and leaves the rest to it: no run is read or written.

    Raises:
        TrainingError: Images, network or settings are not those of the first process.
        Stopped: Somebody asked one of the processes to stop.
    """
    config = resolve_paths(config)
    data = open_data(config)
    splits = open_splits(data, ("train", "val"))
    class_weights = weigh_classes(splits["train"])
    frozen = build_frozen(config)
    about = describe_run(data, splits, build_extractor(config, frozen), class_weights)
    if not group.check_same("task", to_identity(about, config)):
        group.shutdown()
        return
    d: int = frozen.backbone.output_shape[-1]
    head = build_heads(config, d, share_moments(config, d, None, group), list_member_seeds(config))
    fit_online(config, frozen, head, splits, class_weights, None, group)


def describe_run(
    data: DataSet, splits: Mapping[str, Split], extractor: Extractor, class_weights: dict[int, float]
) -> dict[str, Any]:
    """Everything beside the settings that a result depends on."""
    card = data.card
    return {
        **describe_environment(),
        "extractor": extractor.about,
        "weights_sha256": compute_fingerprint(extractor.frozen.backbone),
        "data": {
            "title": card.title,
            "notice": card.notice,
            "files": dict(card.files),
            "preparation": asdict(data.find_preparation()),
        },
        "images": describe_splits(data, splits),
        "class_weights": class_weights,
    }


def to_identity(about: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """What a fit that is resumed must have in common with the one that was stopped."""
    images, engine = about["images"], about["extractor"]["engine"]
    settings = name_files(config).model_dump(mode="json", exclude={"data": {"path"}, "model": {"weights"}})
    return {
        "settings": hashlib.sha256(json.dumps(settings).encode()).hexdigest(),
        **{SPLIT_NAMES[name]: one["sha256"] for name, one in images.items()},
        **{f"labels of the {SPLIT_NAMES[name]}": one["labels_sha256"] for name, one in images.items()},
        "weights of the network": about["weights_sha256"],
        "backend": about["backend"],
        "device": about["device"],
        "engine": engine,
        **{f"version of {package}": version for package, version in list_versions(engine).items()},
        **({"number of devices": count_devices()} if config.training.mode == "online" else {}),
    }


def warn_of_constant(scores: Scores) -> None:
    """Says so where a classifier tells no image from another."""
    if np.ptp(scores) < CONSTANT:
        log.warning(
            "All validation images have the score %.4f: the classifier tells none from another. Check "
            "model.weights and training.learning_rate, or train longer",
            scores[0],
        )
