"""From fitted heads to scores, an operating point and figures."""

import logging
from collections.abc import Callable

import keras
import numpy as np

from pneumo_keras.arrays import SPLIT_NAMES, LogOdds, Scores
from pneumo_keras.config import Config
from pneumo_keras.data.films import LabelledFilms, hash_labels
from pneumo_keras.evaluation.calibration import (
    Calibration,
    LogitScaling,
    describe_calibration,
    fit_scaling,
)
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import Judgement, judge, to_metrics
from pneumo_keras.evaluation.scores import format_scores
from pneumo_keras.evaluation.threshold import OperatingPoint, choose_operating_point
from pneumo_keras.features.extract import (
    MIRRORED,
    PLAIN,
    Extractor,
    View,
)
from pneumo_keras.runs.folder import RunFolder

log = logging.getLogger("pneumo_keras")

ToScores = Callable[[LogOdds], Scores]


def compute_log_odds(
    config: Config, extractor: Extractor, head: keras.Model, films: LabelledFilms, split: str
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


def calibrate(config: Config, films: LabelledFilms, log_odds: LogOdds) -> LogitScaling:
    """The scaling of the log odds that the settings ask for, fitted on validation films."""
    return fit_scaling(config.evaluation.calibration, films.labels, log_odds.mean(axis=1, dtype=np.float64))


def decide(decision: keras.Model, log_odds: LogOdds) -> Scores:
    """Probability of pneumonia (n) from the log odds of all members, or of some."""
    return np.asarray(decision.predict_on_batch(log_odds))[:, 0].astype(np.float64)


def judge_members(
    config: Config,
    films: LabelledFilms,
    log_odds: LogOdds,
    to_scores: ToScores,
    point: OperatingPoint,
    shift: PrevalenceShift | None = None,
) -> Judgement:
    """All figures of the members together at the run's operating point and at 0.5, and of each alone."""
    return judge(
        films.labels,
        to_scores(log_odds),
        point.threshold,
        members=[to_scores(alone) for alone in np.split(log_odds, log_odds.shape[1], axis=1)],
        seed=config.seed,
        shift=shift,
    )


def choose_threshold(config: Config, films: LabelledFilms, scores: Scores) -> OperatingPoint:
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


def describe_scaling(scaling: LogitScaling, films: LabelledFilms, log_odds: LogOdds) -> Calibration:
    """What the scores mean: their scaling, its gain on validation films, the prevalence they speak of."""
    logits = log_odds.mean(axis=1, dtype=np.float64)
    calibration = describe_calibration(scaling, films.labels, logits, fitted_on="val")
    log.info(
        "Calibration: %s, calibration error %.4f before and %.4f after, on the validation films",
        scaling.method,
        calibration.calibration_error.before,
        calibration.calibration_error.after,
    )
    return calibration


def write_scores(
    folder: RunFolder, split: str, films: LabelledFilms, scores: Scores, judgement: Judgement
) -> None:
    """Writes `scores_<split>.csv` and `metrics_<split>.json`, figures at 0.5 beside those of the run."""
    metrics = to_metrics(
        judgement,
        split=split,
        films_sha256=films.fingerprint,
        labels_sha256=hash_labels(films.labels),
    )
    folder.write_text(f"scores_{split}.csv", format_scores(films.labels, scores))
    folder.write_document(f"metrics_{split}.json", metrics)
