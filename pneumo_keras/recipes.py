"""The whole jobs, each read like the abstract of a paper. The only place that unpacks settings."""

import functools
import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import Features, Films, Labels, LogOdds, Scores
from pneumo_keras.config import Config, change_config, find_cache, format_config
from pneumo_keras.data.audit import Audit, audit_films
from pneumo_keras.data.catalog import SPLITS, load_release
from pneumo_keras.data.phantom import build_phantom_films
from pneumo_keras.data.pneumonia_mnist import load_pneumonia_mnist
from pneumo_keras.data.pneumonia_mnist.source import to_medmnist_folder
from pneumo_keras.errors import RunError, TrainingError
from pneumo_keras.evaluation.calibration import (
    LogitScaling,
    correct_prevalence,
    fit_scaling,
    to_effective_prevalence,
)
from pneumo_keras.evaluation.comparison import Difference, compare_figures
from pneumo_keras.evaluation.metrics import count_confusions, to_accuracy, to_auc
from pneumo_keras.evaluation.ranking import Candidate, build_candidates, rank
from pneumo_keras.evaluation.reliability import BINS, to_calibration_error
from pneumo_keras.evaluation.report_card import HALF, Judgement, judge
from pneumo_keras.evaluation.scores import (
    format_medmnist_scores,
    format_scores,
    load_scores,
    to_medmnist_name,
)
from pneumo_keras.evaluation.threshold import OperatingPoint, choose_operating_point
from pneumo_keras.grid import Grid, group_combinations
from pneumo_keras.model.backbone import build_backbone, compute_fingerprint
from pneumo_keras.model.classifier import (
    build_online_model,
    build_resizing,
    build_scaling,
    join_classifier,
    load_classifier,
)
from pneumo_keras.model.engines import build_network, choose_engine
from pneumo_keras.model.head import build_decision, build_head, build_standardisation
from pneumo_keras.progress import show_progress
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
from pneumo_keras.reporting.sweep import check_sweep_folder, write_sweep, write_sweep_plot
from pneumo_keras.seeds import derive_seeds
from pneumo_keras.training.augmentation import build_augmentation, build_variation
from pneumo_keras.training.batches import ShuffledBatches
from pneumo_keras.training.cross_validation import cross_validate
from pneumo_keras.training.feature_store import SLICE, FeatureTable, compute_moments
from pneumo_keras.training.features import (
    CHUNK,
    MIRRORED,
    PLAIN,
    Extractor,
    View,
    compute_films_fingerprint,
)
from pneumo_keras.training.fit import History, compute_class_weights, fit
from pneumo_keras.training.folds import Folds, draw_folds

log = logging.getLogger("pneumo_keras")

ToScores = Callable[[LogOdds], Scores]

PHANTOM_SEEDS = {"train": 0, "val": 1, "test": 2}
MEMBERS_AT_ONCE = 100  # heads that a sweep fits at the same time
IN_MEMORY = 128 * 2**20  # bytes of training features that are held and not read again in every epoch


def train_run(config: Config, folder: RunFolder) -> Judgement:
    """Fits a head on the frozen network and writes the run's folder.

    Returns:
        The figures on the validation split. The test split is not opened.
    """
    with folder.writing(config):
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
        folder.write_json("operating_point.json", point.to_dict())
        folder.write_json("environment.json", describe_run(extractor, films, class_weights))
        write_scores(folder, "val", films["val"], scores, judgement)
        classifier = join_classifier(
            extractor.resize,
            extractor.scale,
            extractor.backbone,
            head,
            decision,
            flip_average=config.model.flip_average,
        )
        folder.write_model(classifier.model)
    return judgement


def evaluate_run(folder: RunFolder, split: str, prevalence: float | None = None) -> Judgement:
    """Scores a split with the saved model and writes its scores, figures and pictures.

    Args:
        folder: Of a finished run.
        split: `train`, `val` or `test`.
        prevalence: Share of pneumonia where the scores are to be used, in (0, 1); scores and
            operating point are corrected for it together, so that no call changes.
    """
    folder.check_finished()
    config = folder.load_config()
    classifier = load_classifier(folder.model_file)
    point = OperatingPoint.from_dict(folder.load_json("operating_point.json"))
    calibration = folder.load_json("calibration.json")
    films = load_splits(config, (split,))[split]
    extractor = build_extractor(config, classifier.backbone)
    log_odds = compute_log_odds(config, extractor, classifier.head, films, split)
    to_scores = functools.partial(decide, classifier.decision)
    if prevalence is not None:
        to_scores, point = correct_decision(
            to_scores, point, trained=calibration["prevalence"], stated=prevalence
        )
    scores = to_scores(log_odds)
    judgement = judge_members(config, films, log_odds, to_scores, point)
    write_scores(folder, split, films, scores, judgement, prevalence)
    write_medmnist_scores(folder, config, split, films, scores)
    title = f"{folder.path.resolve().name}: {len(films):,} {SPLIT_NAMES[split]} of {name_films(config)}"
    history = folder.load_history()
    summary = draw_summary(history, films.labels, scores, judgement.evaluation, title=title)
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
        judgement=judgement,
        prevalence=prevalence,
        calibration=calibration,
        operating_point=point,
        history=history,
        settings=format_config(config),
        environment=folder.load_json("environment.json"),
    )
    folder.write_text(f"report{suffix}.html", format_report(report))
    return judgement


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
    groups = group_combinations(config, grid, at_once=max(1, MEMBERS_AT_ONCE // folds))
    check_sweep_folder(folder)
    films = load_splits(config, ("train", "val"))
    both = Films(
        np.concatenate([part.images for part in films.values()]),
        np.concatenate([part.labels for part in films.values()]),
    )
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
            best = format_config(change_config(config, ranked[0].values))
            write_sweep(folder, ranked, best, title=title)
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


def load_swept_features(config: Config, extractor: Extractor, films: dict[str, Films]) -> SweptFeatures:
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
    return build_candidates(group, labels, found.log_odds, held_out, found.best_epochs)


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
    # Keras draws the seeds of a random network from here; its own set_random_seed imports TensorFlow.
    random.seed(config.seed)
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
) -> tuple[keras.Model, History]:
    """Fits the head on features that passed the frozen network once."""
    views = extract_views(config, extractor, films["train"], "train")
    validation = extractor.extract(films["val"], SPLIT_NAMES["val"])[:]
    head = build_heads(config, extractor.backbone, views, list_member_seeds(config))
    small = sum(view.size for view in views) <= IN_MEMORY
    batches = build_batches(config, [view[:] for view in views] if small else views, films["train"])
    history = fit_model(config, head, batches, (validation, films["val"].labels), class_weights)
    return head, history


def fit_online(
    config: Config, extractor: Extractor, films: dict[str, Films], class_weights: dict[int, float]
) -> tuple[keras.Model, History]:
    """Fits the whole model, with fresh augmentation in every epoch."""
    views = [extractor.extract(films["train"], SPLIT_NAMES["train"])] if config.model.standardise else []
    head = build_heads(config, extractor.backbone, views, list_member_seeds(config))
    model = build_online_model(
        extractor.resize,
        build_augmentation_for(config),
        extractor.scale,
        extractor.backbone,
        head,
    )
    batches = build_batches(config, [films["train"].images[..., None]], films["train"])
    validation = (films["val"].images[..., None], films["val"].labels)
    return head, fit_model(config, model, batches, validation, class_weights)


def extract_views(config: Config, extractor: Extractor, films: Films, split: str) -> list[FeatureTable]:
    """Features of films to train on, plain and augmented, as the settings ask."""
    augmentation, name = config.augmentation, SPLIT_NAMES[split]
    views = [extractor.extract(films, name)] if augmentation.plain else []
    vary = build_variation(build_augmentation_for(config))
    for index in range(1, augmentation.views + 1):
        view = View(
            vary=vary,
            key=(config.seed, index),
            name=f"augmented view {index} of {augmentation.views}",
            about={"view": index, "seed": config.seed, **augmentation.model_dump(exclude={"views", "plain"})},
        )
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


def build_heads(
    config: Config, backbone: keras.Model, views: Sequence[FeatureTable], seeds: Sequence[int]
) -> keras.Model:
    """The heads that the settings ask for, standardised by the features of the views."""
    model = config.model
    return build_head(
        backbone.output_shape[-1],
        standardisation=build_standardisation(*compute_moments(views)) if model.standardise else None,
        hidden_units=model.hidden_units,
        dropout=model.dropout,
        outputs=model.outputs,
        seeds=seeds,
    )


def list_member_seeds(config: Config) -> list[int]:
    """A seed for each head that is fitted; one head alone has the run's."""
    return [config.seed, *derive_seeds(config.seed, count=config.training.members - 1)]


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
    """Fits with the optimiser and the schedule that the settings ask for.

    Raises:
        TrainingError: The loss is no longer a number.
    """
    training = config.training
    history = fit(
        model,
        batches,
        validation,
        class_weights=class_weights,
        epochs=training.epochs,
        learning_rates=[training.learning_rate] * training.members,
        weight_decays=[training.weight_decay] * training.members,
        plateau_factor=training.plateau_factor,
        plateau_patience=training.plateau_patience,
        # What is small for a head is large for a network.
        validation_batch=SLICE if training.mode == "cached" else training.batch_size,
    )
    if not history.finite.all():
        raise TrainingError(
            "The loss is no longer a number. Lower training.learning_rate, or check model.weights."
        )
    best = ", ".join(map(str, history.best_epochs))
    log.info("Kept epoch %s, the one with the lowest validation loss", best)
    return history


def compute_log_odds(
    config: Config, extractor: Extractor, head: keras.Model, films: Films, split: str
) -> LogOdds:
    """Log odds of pneumonia (n, members) for the films of a split."""
    log_odds = []
    for view in list_judged_views(config):
        table = extractor.extract(films, SPLIT_NAMES[split], view)
        log_odds.append(np.concatenate([head.predict_on_batch(features) for features in table.iterate()]))
    return np.mean(log_odds, axis=0)


def list_judged_views(config: Config) -> list[View]:
    """How films are seen that are scored; log odds are averaged over them."""
    return [PLAIN, MIRRORED] if config.model.flip_average else [PLAIN]


def calibrate(config: Config, films: Films, log_odds: LogOdds) -> LogitScaling:
    """The scaling of the log odds that the settings ask for, fitted on validation films."""
    return fit_scaling(config.evaluation.calibration, films.labels, log_odds.mean(axis=1, dtype=np.float64))


def decide(decision: keras.Model, log_odds: LogOdds) -> Scores:
    """Probability of pneumonia (n) from the log odds of all members, or of some."""
    return np.asarray(decision.predict_on_batch(log_odds))[:, 0].astype(np.float64)


def correct_decision(
    to_scores: ToScores, point: OperatingPoint, *, trained: float, stated: float
) -> tuple[ToScores, OperatingPoint]:
    """Scores and operating point for films with another share of pneumonia; every call stays."""
    correct = functools.partial(correct_prevalence, trained=trained, stated=stated)
    threshold = float(correct(np.array([point.threshold]))[0])
    return lambda log_odds: correct(to_scores(log_odds)), replace(point, threshold=threshold)


def judge_members(
    config: Config, films: Films, log_odds: LogOdds, to_scores: ToScores, point: OperatingPoint
) -> Judgement:
    """All figures of the members together at the run's operating point and at 0.5, and of each alone."""
    return judge(
        films.labels,
        to_scores(log_odds),
        point.threshold,
        members=[to_scores(alone) for alone in np.split(log_odds, log_odds.shape[1], axis=1)],
        seed=config.seed,
    )


def describe_calibration(
    scaling: LogitScaling, films: dict[str, Films], log_odds: LogOdds, class_weights: dict[int, float]
) -> dict[str, Any]:
    """What the scores mean: their scaling, its gain on validation films, the prevalence they speak of."""
    labels, logits = films["val"].labels, log_odds.mean(axis=1, dtype=np.float64)
    normal, pneumonia = films["train"].to_class_counts()
    trained = to_effective_prevalence(
        normal, pneumonia, normal_weight=class_weights[0], pneumonia_weight=class_weights[1]
    )
    errors = {
        name: to_calibration_error(labels, part.to_scores(logits))
        for name, part in (("before", fit_scaling("none", labels, logits)), ("after", scaling))
    }
    log.info(
        "Calibration: %s, calibration error %.4f before and %.4f after, on the validation films",
        scaling.method,
        errors["before"],
        errors["after"],
    )
    return {
        **scaling.to_dict(),
        "fitted_on": "val",
        # An intercept moves the scores to the share of the films it was fitted on.
        "prevalence": float(labels.mean()) if scaling.method == "platt" else trained,
        "calibration_error": errors,
        "bins": BINS,
    }


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


def write_scores(
    folder: RunFolder,
    split: str,
    films: Films,
    scores: Scores,
    judgement: Judgement,
    prevalence: float | None = None,
) -> None:
    """Writes `scores_<split>.csv` and `metrics_<split>.json`, figures at 0.5 beside those of the run."""
    document = {
        "split": split,
        "films_sha256": compute_films_fingerprint(films),
        "stated_prevalence": prevalence,
        **judgement.to_dict(),
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
