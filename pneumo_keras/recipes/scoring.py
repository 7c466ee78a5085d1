"""From features to scores, calibration, an operating point and metrics."""

import logging
from collections.abc import Sequence

import numpy as np

from pneumo_keras.arrays import LogOdds, Scores
from pneumo_keras.config import Config
from pneumo_keras.data.images import hash_labels
from pneumo_keras.data.overlap import PerImage
from pneumo_keras.evaluation.calibration import Calibration, LogitScaling, describe_calibration, fit_scaling
from pneumo_keras.evaluation.patients import to_groups
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import Distances, Evaluation, Metrics, evaluate
from pneumo_keras.evaluation.scores import format_scores, hash_scores
from pneumo_keras.evaluation.threshold import OperatingPoint, choose_operating_point
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.store import iterate_rows
from pneumo_keras.features.views import View
from pneumo_keras.model.inference import HeadMembers
from pneumo_keras.recipes.images import Split
from pneumo_keras.reporting.evaluation_text import describe_backwards
from pneumo_keras.runs.folder import RunFolder

log = logging.getLogger("pneumo_keras")


def compute_log_odds(extractor: Extractor, head: HeadMembers, split: Split, views: Sequence[View]) -> LogOdds:
    """Log odds of pneumonia (n, members) for the images of a split, averaged over views of them."""
    log_odds = []
    for view in views:
        table = extractor.extract(split.images, split.title, view)
        log_odds.append(np.concatenate([head.compute_log_odds(features) for features in iterate_rows(table)]))
    return np.mean(log_odds, axis=0)


def decide(scaling: LogitScaling, log_odds: LogOdds) -> Scores:
    """Probability of pneumonia (n) from the log odds of all members, or of some."""
    return scaling.to_scores(log_odds.mean(axis=1, dtype=np.float64))


def calibrate(config: Config, split: Split, log_odds: LogOdds) -> Calibration:
    """The calibration that the settings ask for, fitted on validation images."""
    labels, logits = split.images.labels, log_odds.mean(axis=1, dtype=np.float64)
    scaling = fit_scaling(config.evaluation.calibration, labels, logits)
    calibration = describe_calibration(scaling, labels, logits, fitted_on=split.name)
    if calibration.method != "none":
        log.info(
            "Calibration: %s, calibration error %.4f before and %.4f after, on the validation images",
            calibration.method,
            calibration.error_before,
            calibration.error_after,
        )
    return calibration


def choose_threshold(config: Config, split: Split, scores: Scores) -> OperatingPoint:
    """The operating point that the settings ask for, chosen on validation images."""
    demand = config.evaluation.model_dump(exclude={"calibration"})
    return choose_operating_point(split.images.labels, scores, chosen_on=split.name, **demand)


def evaluate_members(
    config: Config,
    split: Split,
    log_odds: LogOdds,
    scaling: LogitScaling,
    point: OperatingPoint,
    shift: PrevalenceShift | None = None,
    *,
    distances: Distances | None = None,
    new: PerImage | None = None,
) -> Evaluation:
    """All metrics of the members together and of each alone, with a warning of scores that rank backwards."""
    log.info("Computing figures and intervals of %s", split.title)
    evaluation = evaluate(
        split.images.labels,
        decide(scaling, log_odds),
        point.threshold,
        members=[decide(scaling, alone) for alone in np.split(log_odds, log_odds.shape[1], axis=1)],
        seed=config.seed,
        shift=shift,
        distances=distances,
        patients=to_groups(split.names.patients),
        new=new,
        columns=split.names.columns,
    )
    if evaluation.ranks_backwards:
        log.warning("%s: %s", split.title, describe_backwards(evaluation))
    return evaluation


def write_scores(
    folder: RunFolder, split: Split, scores: Scores, evaluation: Evaluation, suffix: str = ""
) -> None:
    """Writes `scores_<split><suffix>.csv` and `metrics_<split><suffix>.json`, without what was perturbed."""
    labels = split.images.labels
    metrics = Metrics(
        **{**vars(evaluation), "perturbed": None},
        split=split.name,
        images_sha256=split.images.fingerprint(),
        labels_sha256=hash_labels(labels),
        scores_sha256=hash_scores(labels, scores),
    )
    table = format_scores(labels, scores, split.names.files, split.names.patients)
    folder.write_text(f"scores_{split.name}{suffix}.csv", table)
    folder.write_json(f"metrics_{split.name}{suffix}.json", metrics)
