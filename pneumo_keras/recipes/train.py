"""A training, from images to the folder of a run."""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import SPLIT_NAMES, Scores
from pneumo_keras.config import Config, list_paths, name_files, resolve_paths
from pneumo_keras.data.images import count_classes
from pneumo_keras.data.sources import DataSet
from pneumo_keras.distributed.data_parallel import DataParallel, find_devices
from pneumo_keras.distributed.process_group import ProcessGroup
from pneumo_keras.evaluation.report_card import Evaluation
from pneumo_keras.features.extract import Extractor, list_versions
from pneumo_keras.features.ood import fit_ood_detector
from pneumo_keras.features.store import SLICE
from pneumo_keras.features.views import PLAIN, SeenImages, build_augmented_views, list_evaluated_views
from pneumo_keras.model.classifier import Classifier, FrozenPart, build_online_model, save_classifier
from pneumo_keras.model.fingerprint import compute_fingerprint
from pneumo_keras.model.head import Moments, build_decision
from pneumo_keras.recipes.adapters import build_heads, list_fitted_views, to_fit_config, to_ranges
from pneumo_keras.recipes.fine_tuning import fine_tune, join_histories, prepare_fine_tuning
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
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.checkpoint import Checkpoint
from pneumo_keras.training.fit import History, compute_class_weights, compute_moments, fit

log = logging.getLogger("pneumo_keras")

CONSTANT = 1e-6  # range of scores that differ by rounding alone
WORKERS = 8  # threads that augment images ahead of an online fit, at most


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
    head = build_heads(config, d, share_moments(config, d, None, group))
    fit_online(config, frozen, head, splits, class_weights, None, group)


def weigh_classes(split: Split) -> dict[int, float]:
    """Balanced class weights of the training images."""
    class_weights = compute_class_weights(split.images.labels)
    counts = count_classes(split.images.labels)
    log.info(
        "Training images: %d normal (class weight %.4f), %d pneumonia (class weight %.4f)",
        counts[0],
        class_weights[0],
        counts[1],
        class_weights[1],
    )
    return class_weights


def fit_heads(
    config: Config,
    extractor: Extractor,
    splits: Mapping[str, Split],
    class_weights: dict[int, float],
    checkpoint: Checkpoint,
    group: ProcessGroup | None = None,
) -> tuple[keras.Model, History]:
    """Fits the heads on cached features, or on images with fresh augmentation in every epoch.

    What a checkpoint says of an earlier attempt is not done again. With a group, this is its first process.
    """
    train, val = splits["train"], splits["val"]
    fitted_views, evaluated_views = list_fitted_views(config), list_evaluated_views(config.model.flip_average)
    extractor.check_room([(train.images, fitted_views), (val.images, [PLAIN, *evaluated_views])])
    views = [extractor.extract(train.images, train.title, view) for view in fitted_views]
    moments = compute_moments(views) if config.model.standardise else None
    d: int = extractor.frozen.backbone.output_shape[-1]
    if group:
        moments = share_moments(config, d, moments, group)
    head = build_heads(config, d, moments)
    if config.training.mode == "online":
        return head, fit_online(config, extractor.frozen, head, splits, class_weights, checkpoint, group)
    evaluated = [extractor.extract(val.images, val.title)]
    size, seed = config.training.batch_size, config.seed
    batches = Batches(views, train.images.labels, batch_size=size, seed=seed)
    validation = Batches(evaluated, val.images.labels, batch_size=SLICE, seed=None)
    return head, _fit(config, head, head, batches, validation, class_weights, checkpoint)


def fit_online(
    config: Config,
    frozen: FrozenPart,
    head: keras.Model,
    splits: Mapping[str, Split],
    class_weights: dict[int, float],
    checkpoint: Checkpoint | None,
    group: ProcessGroup | None,
) -> History:
    """Fits the head in the whole model, on images that are augmented anew in every epoch.

    All devices that JAX has share each step, and those of the group.

    Raises:
        SettingsError: A batch cannot be shared evenly.
    """
    train, val, size = splits["train"].images, splits["val"].images, config.training.batch_size
    # A view for each epoch: images take turns, so that each is augmented anew every time.
    fresh = build_augmented_views(
        config.training.epochs, to_ranges(config.augmentation), seed=config.augmentation.seed
    )
    model = build_online_model(frozen, head)
    devices = find_devices(group)
    share = devices.to_share(size) if devices else None
    batches = Batches(
        [SeenImages(train, view, frozen) for view in fresh],
        train.labels,
        batch_size=size,
        seed=config.seed,
        share=share,
        workers=min(WORKERS, os.cpu_count() or 1),
    )
    # Of the size of a training batch: what is small for a head is large for a network.
    seen = [SeenImages(val, PLAIN, frozen)]
    validation = Batches(seen, val.labels, batch_size=size, seed=None, share=share)
    if devices is None:
        return _fit(config, model, head, batches, validation, class_weights, checkpoint)
    log.info("%d images a step over %d devices: %d each", size, devices.count, size // devices.count)
    with devices.scope():
        history = _fit(config, model, head, batches, validation, class_weights, checkpoint, devices)
    if group:
        group.check_same("weights", {"weights after the fit": compute_fingerprint(head)})
        group.shutdown()
    return history


def share_moments(
    config: Config, d: int, moments: tuple[Moments, Moments] | None, group: ProcessGroup
) -> tuple[Moments, Moments] | None:
    """The moments of the first process, which alone extracts features, in all of them."""
    if not config.model.standardise:
        return None
    data = group.broadcast("moments", b"".join(part.tobytes() for part in moments or ()))
    mean, variance = np.frombuffer(data, np.float64).reshape(2, d)
    return mean, variance


def _fit(
    config: Config,
    model: keras.Model,
    head: keras.Model,
    batches: Batches,
    validation: Batches,
    class_weights: dict[int, float],
    checkpoint: Checkpoint | None,
    devices: DataParallel | None = None,
) -> History:
    """Fits the head in a model with the optimiser and the schedule that the settings ask for."""
    training = config.training
    history = fit(
        model,
        batches,
        validation,
        to_fit_config(training),
        class_weights=class_weights,
        head=head,
        checkpoint=checkpoint,
        devices=devices,
    )
    if training.schedule == "plateau":
        kept = ", ".join(map(str, history.kept_epochs))
        log.info("Kept epoch %s: for each head the one with its lowest validation loss", kept)
    return history


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
