"""A training, from images to the folder of a run: a fit of the heads, and one of blocks of the network."""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.config import Config, list_paths, name_files, resolve_paths
from pneumo_keras.data.images import count_classes
from pneumo_keras.data.sources import DataSet
from pneumo_keras.distributed.data_parallel import DataParallel, find_devices
from pneumo_keras.distributed.process_group import ProcessGroup
from pneumo_keras.engines.graph import read_graph
from pneumo_keras.engines.onnx import write_onnx
from pneumo_keras.evaluation.report_card import Evaluation
from pneumo_keras.features.extract import Extractor, ViewedImages, list_versions
from pneumo_keras.features.ood import fit_ood_detector
from pneumo_keras.features.store import SLICE, Entry
from pneumo_keras.features.views import (
    PLAIN,
    SeenImages,
    View,
    build_augmented_views,
    list_evaluated_views,
)
from pneumo_keras.model.backbone import CutBackbone, cut_backbone
from pneumo_keras.model.classifier import Classifier, FrozenPart, build_online_model, save_classifier
from pneumo_keras.model.fingerprint import compute_fingerprint
from pneumo_keras.model.head import build_decision, read_members
from pneumo_keras.model.inference import Moments
from pneumo_keras.recipes.extraction import build_extractor, choose_computing
from pneumo_keras.recipes.images import (
    Split,
    compare_patients,
    describe_splits,
    hash_splits,
    open_data,
    open_splits,
)
from pneumo_keras.recipes.network import (
    build_frozen,
    build_heads,
    build_network,
    to_fit_config,
)
from pneumo_keras.recipes.scoring import (
    calibrate,
    choose_threshold,
    compute_log_odds,
    decide,
    evaluate_members,
    write_scores,
)
from pneumo_keras.recipes.views import list_fitted_views, to_ranges
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.folder import HEAD, MODEL, NETWORK, NORMAL_IMAGES, OOD_DETECTOR, SEEN_IMAGES, RunFolder
from pneumo_keras.runs.run import choose_normal_images
from pneumo_keras.runtime.backend import count_devices
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.checkpoint import Checkpoint
from pneumo_keras.training.fit import History, compute_class_weights, compute_moments, fit

log = logging.getLogger("pneumo_keras")

CONSTANT = 1e-6  # range of scores that differ only by rounding
WORKERS = 8  # threads that augment images ahead of an online fit, at most


@dataclass(frozen=True)
class Training:
    """What a training starts from: settings with the paths of this machine, images, frozen network.

    `group` has the processes that share the fit, if this is not the only one.
    """

    config: Config
    data: DataSet
    splits: dict[str, Split]
    class_weights: dict[int, float]
    frozen: FrozenPart
    extractor: Extractor
    group: ProcessGroup | None = None

    @property
    def fitted_views(self) -> list[View]:
        """How training images are seen."""
        return list_fitted_views(self.config)

    @property
    def evaluated_views(self) -> list[View]:
        """How validation images are seen, for the loss of an epoch and for the scores."""
        return [PLAIN, *list_evaluated_views(self.config.model.flip_average)]

    @property
    def feature_count(self) -> int:
        """The number of features of an image."""
        return self.extractor.network.feature_count


def train_run(
    config: Config,
    folder: RunFolder,
    paths: Mapping[str, str] | None = None,
    *,
    resume: bool = False,
    group: ProcessGroup | None = None,
) -> Evaluation:
    """Fits a head on the frozen network and writes the run's folder.

    Returns the metrics on the validation split; the test split is not opened. The files that the settings
    name are found from the working folder, or at `paths`. In a group of processes that share the fit, all
    others call `join_fit`.

    Raises:
        Stopped: A signal stopped the fit; the run can be resumed.
    """
    paths = list_paths(config) if paths is None else paths
    with folder.writing(config, paths, resume=resume):
        training = open_training(resolve_paths(config, paths), group)
        config, val = training.config, training.splits["val"]
        _, new = compare_patients(training.data, "val")
        about = describe_run(training)
        checkpoint = Checkpoint(folder.checkpoint_file, to_identity(about, config))
        if group:
            group.check_same("task", checkpoint.belongs_to)
        tuning = prepare_fine_tuning(training)
        head, history = fit_heads(training, checkpoint)
        extractor, frozen = training.extractor, training.frozen
        if tuning:
            second = replace(checkpoint, path=folder.tuning_checkpoint_file)
            frozen, of_blocks = fine_tune(training, tuning, head, second)
            history = join_histories(history, of_blocks)
            extractor = build_extractor(config, build_network(frozen.backbone, extractor.network.about))
            about["fine_tuned_weights_sha256"] = compute_fingerprint(frozen.backbone)
        flip_average, members = config.model.flip_average, read_members(head)
        log_odds = compute_log_odds(extractor, members, val, list_evaluated_views(flip_average))
        calibration = calibrate(config, val, log_odds)
        scores = decide(calibration, log_odds)
        if np.ptp(scores) < CONSTANT:
            log.warning(
                "All validation images have the score %.4f: the classifier does not separate them. Check "
                "model.weights and training.learning_rate, or train longer",
                scores[0],
            )
        point = choose_threshold(config, val, scores)
        evaluation = evaluate_members(config, val, log_odds, calibration, point, new=new)
        train = training.splits["train"]
        ood_detector = fit_ood_detector(
            extractor.extract(train.images, train.title, training.fitted_views[0]),
            extractor.extract(val.images, val.title),
        )
        log.info("Writing the run to %s", folder.path)
        folder.write_table("history.csv", history.epochs)
        folder.write_json("calibration.json", calibration)
        folder.write_json("operating_point.json", point)
        decision = build_decision(slope=calibration.slope, intercept=calibration.intercept)
        classifier = Classifier(frozen, head, decision, flip_average).join()
        about["classifier_sha256"] = compute_fingerprint(classifier)
        about["feature_layers"] = {name: asdict(one) for name, one in extractor.network.layers.items()}
        folder.write_json("environment.json", {**about, "paths": dict(paths)})
        folder.write_with(SEEN_IMAGES, functools.partial(np.save, arr=hash_splits(training.splits)))
        write_scores(folder, val, scores, evaluation)
        normal = val.images.read(choose_normal_images(val.images.labels, scores))
        folder.write_with(NORMAL_IMAGES, functools.partial(np.savez, images=normal))
        folder.write_with(OOD_DETECTOR, ood_detector.save)
        folder.write_with(HEAD, members.save)
        network = write_onnx(read_graph(frozen.backbone))
        folder.write_with(NETWORK, lambda path: path.write_bytes(network))
        folder.write_with(MODEL, functools.partial(save_classifier, classifier))
    return evaluation


def join_fit(config: Config, group: ProcessGroup) -> None:
    """Fits together with the first process of a group, which alone reads and writes a run.

    Raises:
        TrainingError: Images, network or settings are not those of the first process.
        Stopped: A signal stopped one of the processes.
    """
    training = open_training(resolve_paths(config), group)
    if not group.check_same("task", to_identity(describe_run(training), training.config)):
        group.shutdown()
        return
    moments = share_moments(training, None)
    fit_online(training, build_heads(training.config, training.feature_count, moments), None)


def open_training(config: Config, group: ProcessGroup | None) -> Training:
    """Opens images and network of a training."""
    data = open_data(config)
    splits = open_splits(data, ("train", "val"))
    labels = splits["train"].images.labels
    class_weights, (normal, pneumonia) = compute_class_weights(labels), count_classes(labels)
    log.info(
        "Training images: %d normal (class weight %.4f), %d pneumonia (class weight %.4f)",
        normal,
        class_weights[0],
        pneumonia,
        class_weights[1],
    )
    frozen = build_frozen(config)
    network = build_network(frozen.backbone, choose_computing(config.compute))
    extractor = build_extractor(config, network)
    return Training(config, data, splits, class_weights, frozen, extractor, group)


def describe_run(training: Training) -> dict[str, Any]:
    """Everything besides the settings that a result depends on."""
    data, extractor = training.data, training.extractor
    return {
        **describe_environment(),
        "extractor": dict(extractor.network.about),
        "weights_sha256": compute_fingerprint(training.frozen.backbone),
        "data": {
            "title": data.card.title,
            "notice": data.card.notice,
            "files": dict(data.card.files),
            "preparation": asdict(data.find_preparation()),
        },
        "images": describe_splits(data, training.splits),
        "class_weights": training.class_weights,
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


def fit_heads(training: Training, checkpoint: Checkpoint) -> tuple[keras.Model, History]:
    """Fits the heads on cached features, or on images with fresh augmentation in every epoch.

    Continues from a checkpoint. In a group, this is its first process.
    """
    config, extractor = training.config, training.extractor
    train, val = training.splits["train"], training.splits["val"]
    extractor.check_space([(train.images, training.fitted_views), (val.images, training.evaluated_views)])
    views = [extractor.extract(train.images, train.title, view) for view in training.fitted_views]
    moments = compute_moments(views) if config.model.standardise else None
    head = build_heads(config, training.feature_count, share_moments(training, moments))
    if config.training.mode == "online":
        return head, fit_online(training, head, checkpoint)
    evaluated = [extractor.extract(val.images, val.title)]
    size, seed = config.training.batch_size, config.seed
    batches = Batches(views, train.images.labels, batch_size=size, seed=seed)
    validation = Batches(evaluated, val.images.labels, batch_size=SLICE, seed=None)
    return head, _fit(training, head, head, batches, validation, checkpoint)


def fit_online(training: Training, head: keras.Model, checkpoint: Checkpoint | None) -> History:
    """Fits the head in the whole model, on images with fresh augmentation in every epoch.

    All devices of JAX share each step, and those of the group.

    Raises:
        SettingsError: The devices cannot share a batch evenly.
    """
    config, frozen, group = training.config, training.frozen, training.group
    train, val = training.splits["train"].images, training.splits["val"].images
    # A view for each epoch: images take turns, so that each has fresh augmentation every time.
    fresh = build_augmented_views(
        config.training.epochs, to_ranges(config.augmentation), seed=config.augmentation.seed
    )
    model, size = build_online_model(frozen, head), config.training.batch_size
    devices = find_devices(group)
    local_rows = devices.choose_batch_rows(size) if devices else None
    batches = Batches(
        [SeenImages(train, view, config.model.image_size) for view in fresh],
        train.labels,
        batch_size=size,
        seed=config.seed,
        local_rows=local_rows,
        workers=min(WORKERS, os.cpu_count() or 1),
    )
    # Of the size of a training batch: what is small for a head is large for a network.
    seen = [SeenImages(val, PLAIN, config.model.image_size)]
    validation = Batches(seen, val.labels, batch_size=size, seed=None, local_rows=local_rows)
    if devices is None:
        return _fit(training, model, head, batches, validation, checkpoint)
    log.info("%d images a step over %d devices: %d each", size, devices.count, size // devices.count)
    with devices.scope():
        history = _fit(training, model, head, batches, validation, checkpoint, devices)
    if group:
        group.check_same("weights", {"weights after the fit": compute_fingerprint(head)})
        group.shutdown()
    return history


def share_moments(
    training: Training, moments: tuple[Moments, Moments] | None
) -> tuple[Moments, Moments] | None:
    """The moments of a group's first process, which alone extracts features, in all of them."""
    if not training.group or not training.config.model.standardise:
        return moments
    data = training.group.broadcast("moments", b"".join(part.tobytes() for part in moments or ()))
    mean, variance = np.frombuffer(data, np.float64).reshape(2, training.feature_count)
    return mean, variance


def _fit(
    training: Training,
    model: keras.Model,
    head: keras.Model,
    batches: Batches,
    validation: Batches,
    checkpoint: Checkpoint | None,
    devices: DataParallel | None = None,
) -> History:
    """Fits the head in a model with the optimiser and the schedule that the settings ask for."""
    settings = training.config.training
    log.info("Fitting: %d epochs of %d batches; the first batch is compiled", settings.epochs, len(batches))
    history = fit(
        model,
        batches,
        validation,
        to_fit_config(settings),
        class_weights=training.class_weights,
        head=head,
        checkpoint=checkpoint,
        devices=devices,
    )
    if settings.schedule == "plateau":
        kept = ", ".join(map(str, history.kept_epochs))
        log.info("Kept epoch %s: for each head the one with its lowest validation loss", kept)
    return history


@dataclass(frozen=True)
class FineTuning:
    """A copy of the network cut in two below the blocks that learn, and what computes activations there."""

    cut: CutBackbone
    lower: Extractor


def prepare_fine_tuning(training: Training) -> FineTuning | None:
    """Cuts the network and checks that the features of all parts fit on the disk; None to leave it frozen.

    Raises:
        SettingsError: They take more than the limit of the store.
        DataError: They take more than the disk has.
    """
    block, extractor = training.config.training.unfreeze_from, training.extractor
    if block is None:
        return None
    log.info("Blocks from %s on learn after the head: the activations below them are computed once", block)
    cut = cut_backbone(training.frozen.backbone, block)
    lower = build_extractor(training.config, build_network(cut.lower, extractor.network.about))
    train, val = training.splits["train"].images, training.splits["val"].images
    fitted, evaluated = training.fitted_views, training.evaluated_views

    def list_entries(*wanted: ViewedImages) -> list[Entry]:
        return [entry for view in extractor.list_entries(wanted) for entry in view]

    before = list_entries((train, fitted), (val, evaluated))
    # The address of the fitted network's features is known when it is.
    after = [
        replace(entry, about={**entry.about, "network": "to be fitted"})
        for entry in list_entries((train, fitted[:1]), (val, evaluated))
    ]
    lower.check_space([(train, fitted), (val, [PLAIN])], [*before, *after])
    return FineTuning(cut, lower)


def fine_tune(
    training: Training, tuning: FineTuning, head: keras.Model, checkpoint: Checkpoint
) -> tuple[FrozenPart, History]:
    """Fits the blocks above the cut together with the head, from where the head's own fit ended.

    Weights do not decay: that would pull those of the network away from their pretrained values. Network and
    head are as before where no epoch had a lower validation loss.

    Returns:
        The whole network, frozen again, and what happened.

    Raises:
        TrainingError: The loss is NaN or infinite.
        RunError: The checkpoint cannot be used.
    """
    settings, lower, upper = training.config.training, tuning.lower, tuning.cut.upper

    def load_batches(split: Split, views: Sequence[View], seed: int | None) -> Batches:
        title = f"{split.title}, below {settings.unfreeze_from}"
        tables = [lower.extract(split.images, title, view) for view in views]
        return Batches(tables, split.images.labels, batch_size=settings.unfrozen_batch_size, seed=seed)

    history = fit(
        keras.Model(upper.input, head(upper.output), name="unfrozen"),
        load_batches(training.splits["train"], training.fitted_views, training.config.seed),
        load_batches(training.splits["val"], [PLAIN], None),
        replace(
            to_fit_config(settings),
            optimizer="adamw",
            schedule="plateau",
            epochs=settings.unfrozen_epochs,
            learning_rates=[settings.unfrozen_learning_rate],
            weight_decays=[0.0],
            rate_setting="training.unfrozen_learning_rate",
        ),
        class_weights=training.class_weights,
        checkpoint=checkpoint,
        fitted_before=True,
    )
    tuning.cut.whole.trainable = False
    (kept,) = history.kept_epochs
    if kept:
        log.info("Kept epoch %d of these: the one with the lowest validation loss", kept)
    else:
        log.warning(
            "No epoch had a lower validation loss than the frozen network with its head, and these are kept: "
            "lower training.unfrozen_learning_rate, or leave training.unfreeze_from unset"
        )
    return replace(training.frozen, backbone=tuning.cut.whole), history


def join_histories(head: History, blocks: History) -> History:
    """Both fits in a row: phase 1 is that of the head, phase 2 that with the blocks above the cut."""
    tuned, count = blocks.kept_epochs != [0], len(head.epochs)
    first = [{**row, "kept": 0 if tuned else row["kept"], "phase": 1} for row in head.epochs]
    second = [{**row, "epoch": row["epoch"] + count, "phase": 2} for row in blocks.epochs]
    kept = [epoch + count for epoch in blocks.kept_epochs] if tuned else head.kept_epochs
    return History([*first, *second], kept, blocks.finite)
