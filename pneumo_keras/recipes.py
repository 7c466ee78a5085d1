"""The whole jobs, each read like the abstract of a paper. The only place that unpacks settings."""

import functools
import logging
import random
import re
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import Films, Labels, Scores
from pneumo_keras.config import Config, find_cache, format_config
from pneumo_keras.data.audit import Audit, audit_films
from pneumo_keras.data.catalog import SPLITS, load_release
from pneumo_keras.data.phantom import build_phantom_films
from pneumo_keras.data.pneumonia_mnist import load_pneumonia_mnist
from pneumo_keras.data.pneumonia_mnist.source import to_medmnist_folder
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.comparison import Difference, compare_figures
from pneumo_keras.evaluation.metrics import count_confusions, to_accuracy, to_auc
from pneumo_keras.evaluation.report_card import Evaluation, evaluate
from pneumo_keras.evaluation.scores import (
    format_medmnist_scores,
    format_scores,
    load_scores,
    to_medmnist_name,
)
from pneumo_keras.evaluation.threshold import OperatingPoint, choose_operating_point
from pneumo_keras.model.backbone import build_backbone, compute_fingerprint
from pneumo_keras.model.classifier import (
    Head,
    build_head,
    build_online_model,
    build_resizing,
    build_scaling,
    build_standardisation,
    join_classifier,
    load_classifier,
)
from pneumo_keras.model.engines import build_network, choose_engine
from pneumo_keras.reporting.bench import (
    Bench,
    build_images,
    count_operations,
    measure_engines,
    measure_job,
    measure_product_rate,
)
from pneumo_keras.reporting.environment import describe_device, describe_environment
from pneumo_keras.reporting.plots import draw_summary
from pneumo_keras.reporting.report import SPLIT_NAMES, ReportContents, format_report
from pneumo_keras.reporting.run_folder import RunFolder
from pneumo_keras.training.augmentation import build_augmentation, build_variation
from pneumo_keras.training.batches import ShuffledBatches
from pneumo_keras.training.feature_store import FeatureTable, compute_moments
from pneumo_keras.training.features import CHUNK, Extractor, View, compute_films_fingerprint
from pneumo_keras.training.fit import History, compute_class_weights, fit

log = logging.getLogger("pneumo_keras")

HALF = 0.5  # MedMNIST's threshold, for comparable figures
PHANTOM_SEEDS = {"train": 0, "val": 1, "test": 2}
IN_MEMORY = 128 * 2**20  # bytes of training features that are held and not read again in every epoch


def train_run(config: Config, folder: RunFolder) -> Evaluation:
    """Fits a head on the frozen network and writes the run's folder.

    Returns:
        The figures on the validation split. The test split is not opened.
    """
    # Keras draws the seeds of a random network from here; its own set_random_seed imports TensorFlow.
    random.seed(config.seed)
    with folder.writing(config):
        films = load_splits(config, ("train", "val"))
        class_weights = weigh_classes(films["train"])
        extractor = build_extractor(config, build_frozen(config))
        fit_run = fit_cached if config.training.mode == "cached" else fit_online
        head, history = fit_run(config, extractor, films, class_weights)
        log.info("Kept epoch %d, the one with the lowest validation loss", history.best_epoch)
        scores = score_films(extractor, head.probability, films["val"], "val")
        point = choose_threshold(config, films["val"], scores)
        evaluation, at_half = judge_scores(config, films["val"], scores, point)
        folder.write_table("history.csv", history.epochs)
        folder.write_json("operating_point.json", point.to_dict())
        folder.write_json("environment.json", describe_run(extractor, films, class_weights))
        write_scores(folder, "val", films["val"], scores, evaluation, at_half)
        classifier = join_classifier(extractor.resize, extractor.scale, extractor.backbone, head.probability)
        folder.write_model(classifier.model)
    return evaluation


def evaluate_run(folder: RunFolder, split: str) -> Evaluation:
    """Scores a split with the saved model and writes its scores, figures and pictures."""
    folder.check_finished()
    config = folder.load_config()
    classifier = load_classifier(folder.model_file)
    films = load_splits(config, (split,))[split]
    extractor = build_extractor(config, classifier.backbone)
    scores = score_films(extractor, classifier.head, films, split)
    point = OperatingPoint.from_dict(folder.load_json("operating_point.json"))
    evaluation, at_half = judge_scores(config, films, scores, point)
    write_scores(folder, split, films, scores, evaluation, at_half)
    write_medmnist_scores(folder, config, split, films, scores)
    title = f"{folder.path.resolve().name}: {len(films):,} {SPLIT_NAMES[split]} of {name_films(config)}"
    history = folder.load_history()
    summary = draw_summary(history, films.labels, scores, evaluation, title=title)
    suffix = "" if split == "test" else f"_{split}"
    folder.write_plot(f"summary{suffix}", summary)
    report = ReportContents(
        run=folder.path.resolve().name,
        split=split,
        date=time.strftime("%Y-%m-%d"),
        source=config.data.source,
        source_name=name_films(config),
        weights=config.model.weights,
        films=films,
        scores=scores,
        evaluation=evaluation,
        at_half=at_half,
        operating_point=point,
        history=history,
        settings=format_config(config),
        environment=folder.load_json("environment.json"),
    )
    folder.write_text(f"report{suffix}.html", format_report(report))
    return evaluation


def compare_runs(first: RunFolder, second: RunFolder, split: str) -> dict[str, Difference]:
    """Paired differences of all figures, second minus first, on the same films.

    Raises:
        RunError: A run has no scores of the split, or the runs were scored on different films.
    """
    metrics = [folder.load_json(f"metrics_{split}.json") for folder in (first, second)]
    if metrics[0]["films_sha256"] != metrics[1]["films_sha256"]:
        raise RunError(
            f"Runs can be compared on the same films alone. {first.path} and {second.path} were scored on "
            f"different {SPLIT_NAMES[split]}."
        )
    labels, first_scores = load_scores(first.path / f"scores_{split}.csv")
    _, second_scores = load_scores(second.path / f"scores_{split}.csv")
    return compare_figures(
        labels,
        first_scores,
        second_scores,
        first_threshold=metrics[0]["threshold"],
        second_threshold=metrics[1]["threshold"],
        seed=metrics[0]["seed"],
    )


def bench_machine(config: Config, job: Sequence[str] | None) -> Bench:
    """Measures every engine on this machine, and the whole job where its arguments are given.

    On the films of the settings where they lie on this machine, on phantom films otherwise.
    """
    data = config.data
    at_hand = data.path or (to_medmnist_folder() / load_release(data.size).name).is_file()
    if data.source == "pneumonia_mnist" and not at_hand:
        config = config.model_copy(update={"data": data.model_copy(update={"source": "phantom"})})
        job = [*job, "--set", "data.source=phantom"] if job is not None else None
    backbone = build_frozen(config)
    films = load_splits(config, ("val",))["val"]
    images = build_images(films, config.model.image_size)
    return Bench(
        network=f"InceptionV3 up to {', '.join(config.model.taps)}, {config.model.image_size} px",
        films=f"{CHUNK} {SPLIT_NAMES['val']} of {name_films(config)}",
        operations=count_operations(backbone),
        product_rate=measure_product_rate(),
        engines=measure_engines(backbone, images),
        job=measure_job(job) if job is not None else [],
        environment=describe_environment(),
    )


def audit_data(config: Config) -> tuple[dict[str, Films], Audit]:
    """Judges the films of every split before a training."""
    films = load_splits(config, SPLITS)
    return films, audit_films(films)


def load_splits(config: Config, splits: Sequence[str]) -> dict[str, Films]:
    """The films of the asked splits; the others are not opened."""
    data = config.data
    if data.source == "pneumonia_mnist":
        return load_pneumonia_mnist(splits, size=data.size, path=data.path, cache=find_cache())
    counts = dict(zip(PHANTOM_SEEDS, data.phantom_films, strict=True))
    log.info("The films are %s", name_films(config))
    return {
        split: build_phantom_films(counts[split], size=data.size, seed=PHANTOM_SEEDS[split])
        for split in splits
    }


def name_films(config: Config) -> str:
    """What the films are, for people; synthetic ones are called that."""
    names = {"pneumonia_mnist": "PneumoniaMNIST", "phantom": "synthetic phantoms"}
    return f"{names[config.data.source]}, {config.data.size} px"


def weigh_classes(films: Films) -> dict[int, float]:
    """Balanced class weights of the training films."""
    class_weights = compute_class_weights(films.labels)
    counts = films.to_class_counts()
    log.info(
        "Training films: %d normal (class weight %.4f), %d pneumonia (class weight %.4f)",
        counts[0],
        class_weights[0],
        counts[1],
        class_weights[1],
    )
    return class_weights


def build_frozen(config: Config) -> keras.Model:
    """The frozen network that the settings ask for."""
    model = config.model
    log.info("Building InceptionV3, weights %s, at %d px", model.weights, model.image_size)
    return build_backbone(model.weights, image_size=model.image_size, taps=model.taps)


def build_extractor(config: Config, backbone: keras.Model) -> Extractor:
    """What turns films into features, on the engine that the settings ask for."""
    compute, device = config.compute, describe_device()
    engine, reason = choose_engine(device) if compute.engine == "auto" else (compute.engine, "as set")
    log.info("The frozen network runs on %s (%s), %s, on %s", engine, reason, compute.precision, device)
    image_size = backbone.input_shape[1]
    return Extractor(
        resize=build_resizing(image_size),
        scale=build_scaling(image_size),
        backbone=backbone,
        build_network=functools.partial(build_network, engine=engine, precision=compute.precision),
        about={
            "engine": engine,
            "precision": compute.precision,
            "backend": keras.config.backend(),
            "device": device,
        },
        store=find_cache() / "features",
        limit=int(config.compute.cache_gigabytes * 1e9),
    )


def fit_cached(
    config: Config, extractor: Extractor, films: dict[str, Films], class_weights: dict[int, float]
) -> tuple[Head, History]:
    """Fits the head on features that passed the frozen network once."""
    views = extract_views(config, extractor, films["train"])
    validation = extractor.extract(films["val"], SPLIT_NAMES["val"])[:]
    head = build_head_for(config, extractor, views)
    small = sum(view.size for view in views) <= IN_MEMORY
    batches = build_batches(config, [view[:] for view in views] if small else views, films["train"])
    history = fit_model(config, head.logits, batches, (validation, films["val"].labels), class_weights)
    return head, history


def fit_online(
    config: Config, extractor: Extractor, films: dict[str, Films], class_weights: dict[int, float]
) -> tuple[Head, History]:
    """Fits the whole model, with fresh augmentation in every epoch."""
    views = [extractor.extract(films["train"], SPLIT_NAMES["train"])] if config.model.standardise else []
    head = build_head_for(config, extractor, views)
    model = build_online_model(
        extractor.resize,
        build_augmentation_for(config),
        extractor.scale,
        extractor.backbone,
        head.logits,
    )
    batches = build_batches(config, [films["train"].images[..., None]], films["train"])
    validation = (films["val"].images[..., None], films["val"].labels)
    return head, fit_model(config, model, batches, validation, class_weights)


def extract_views(config: Config, extractor: Extractor, films: Films) -> list[FeatureTable]:
    """Features of the training films, plain and augmented, as the settings ask."""
    augmentation = config.augmentation
    views = [extractor.extract(films, SPLIT_NAMES["train"])] if augmentation.plain else []
    vary = build_variation(build_augmentation_for(config))
    for index in range(1, augmentation.views + 1):
        view = View(
            vary=vary,
            key=(config.seed, index),
            about={"view": index, "seed": config.seed, **augmentation.model_dump(exclude={"views", "plain"})},
        )
        name = f"{SPLIT_NAMES['train']}, augmented view {index} of {augmentation.views}"
        views.append(extractor.extract(films, name, view))
    return views


def build_augmentation_for(config: Config) -> keras.Sequential:
    """The random variation of films that the settings ask for."""
    augmentation = config.augmentation
    return build_augmentation(
        rotation_degrees=augmentation.rotation_degrees,
        horizontal_flip=augmentation.horizontal_flip,
        brightness=augmentation.brightness,
        contrast=augmentation.contrast,
        seed=config.seed,
    )


def build_head_for(config: Config, extractor: Extractor, views: Sequence[FeatureTable]) -> Head:
    """The head that the settings ask for, standardised by the training features."""
    model = config.model
    return build_head(
        extractor.backbone.output_shape[-1],
        standardisation=build_standardisation(*compute_moments(views)) if model.standardise else None,
        hidden_units=model.hidden_units,
        dropout=model.dropout,
        outputs=model.outputs,
        seed=config.seed,
    )


def build_batches(
    config: Config, views: Sequence[FeatureTable | np.ndarray], films: Films
) -> ShuffledBatches:
    """Training batches in the size and order that the settings ask for."""
    return ShuffledBatches(views, films.labels, batch_size=config.training.batch_size, seed=config.seed)


def fit_model(
    config: Config,
    model: keras.Model,
    batches: ShuffledBatches,
    validation: tuple[np.ndarray, Labels],
    class_weights: dict[int, float],
) -> History:
    """Fits with the optimiser and the schedule that the settings ask for."""
    training = config.training
    return fit(
        model,
        batches,
        validation,
        class_weights=class_weights,
        epochs=training.epochs,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        plateau_factor=training.plateau_factor,
        plateau_patience=training.plateau_patience,
    )


def score_films(extractor: Extractor, head: keras.Model, films: Films, split: str) -> Scores:
    """Probability of pneumonia (n) for the films of a split."""
    table = extractor.extract(films, SPLIT_NAMES[split])
    scores = [head.predict_on_batch(features)[:, 0] for features in table.iterate()]
    return np.concatenate(scores).astype(np.float64)


def describe_run(
    extractor: Extractor, films: dict[str, Films], class_weights: dict[int, float]
) -> dict[str, Any]:
    """Everything beside the settings that a result depends on."""
    return {
        **describe_environment(),
        "extractor": extractor.about,
        "weights_sha256": compute_fingerprint(extractor.backbone),
        "films": {
            split: {"sha256": compute_films_fingerprint(part), "class_counts": part.to_class_counts()}
            for split, part in films.items()
        },
        "class_weights": class_weights,
    }


def choose_threshold(config: Config, films: Films, scores: Scores) -> OperatingPoint:
    """The operating point that the settings ask for, chosen on validation films."""
    evaluation = config.evaluation
    return choose_operating_point(
        films.labels,
        scores,
        rule=evaluation.rule,
        chosen_on="val",
        threshold=evaluation.threshold,
        sensitivity=evaluation.sensitivity,
        cost_fn=evaluation.cost_fn,
        cost_fp=evaluation.cost_fp,
    )


def judge_scores(
    config: Config, films: Films, scores: Scores, point: OperatingPoint
) -> tuple[Evaluation, Evaluation]:
    """All figures at the run's operating point, and at 0.5."""
    evaluation = evaluate(films.labels, scores, point.threshold, seed=config.seed)
    if point.threshold == HALF:
        return evaluation, evaluation
    return evaluation, evaluate(films.labels, scores, HALF, seed=config.seed)


def write_scores(
    folder: RunFolder,
    split: str,
    films: Films,
    scores: Scores,
    evaluation: Evaluation,
    at_half: Evaluation,
) -> None:
    """Writes `scores_<split>.csv` and `metrics_<split>.json`, figures at 0.5 beside those of the run."""
    fingerprint = compute_films_fingerprint(films)
    document = {
        "split": split,
        "films_sha256": fingerprint,
        **evaluation.to_dict(),
        "at_0.5": at_half.to_dict(),
    }
    folder.write_text(f"scores_{split}.csv", format_scores(films.labels, scores))
    folder.write_json(f"metrics_{split}.json", document)


def write_medmnist_scores(
    folder: RunFolder, config: Config, split: str, films: Films, scores: Scores
) -> None:
    """Writes MedMNIST's standard result file, in place of an older one."""
    name = to_medmnist_name(
        split=split,
        auc=to_auc(films.labels, scores),
        accuracy=to_accuracy(count_confusions(films.labels, scores, HALF)),
        run=re.sub(r"[^\w-]+", "-", folder.path.resolve().name),
        size=config.data.size,
    )
    folder.remove(f"pneumoniamnist*_{split}_[[]AUC]*.csv")
    folder.write_text(name, format_medmnist_scores(scores))
