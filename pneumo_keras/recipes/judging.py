"""From fitted heads to scores, an operating point and figures."""

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from pneumo_keras.arrays import LogOdds, Scores
from pneumo_keras.config import Config
from pneumo_keras.data.films import LabelledFilms, count_classes
from pneumo_keras.evaluation.calibration import (
    LogitScaling,
    correct_prevalence,
    fit_scaling,
    to_effective_prevalence,
)
from pneumo_keras.evaluation.reliability import BINS, to_calibration_error
from pneumo_keras.evaluation.report_card import Judgement, judge
from pneumo_keras.evaluation.scores import format_scores
from pneumo_keras.evaluation.threshold import OperatingPoint, choose_operating_point
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.views import MIRRORED, PLAIN, View
from pneumo_keras.recipes.films import name_split
from pneumo_keras.runs.folder import RunFolder

log = logging.getLogger("pneumo_keras")

ToScores = Callable[[LogOdds], Scores]


def compute_log_odds(
    config: Config, extractor: Extractor, head: keras.Model, films: LabelledFilms, split: str
) -> LogOdds:
    """Log odds of pneumonia (n, members) for the films of a split."""
    log_odds, views = [], list_judged_views(config)
    extractor.check_room([(films, views)])
    for view in views:
        table = extractor.extract(films, name_split(config, split), view)
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


def correct_decision(
    to_scores: ToScores, point: OperatingPoint, *, trained: float, stated: float
) -> tuple[ToScores, OperatingPoint]:
    """Scores and operating point for films with another share of pneumonia; every call stays."""
    correct = functools.partial(correct_prevalence, trained=trained, stated=stated)
    threshold = float(correct(np.array([point.threshold]))[0])
    return lambda log_odds: correct(to_scores(log_odds)), replace(point, threshold=threshold)


def judge_members(
    config: Config, films: LabelledFilms, log_odds: LogOdds, to_scores: ToScores, point: OperatingPoint
) -> Judgement:
    """All figures of the members together at the run's operating point and at 0.5, and of each alone."""
    return judge(
        films.labels,
        to_scores(log_odds),
        point.threshold,
        members=[to_scores(alone) for alone in np.split(log_odds, log_odds.shape[1], axis=1)],
        seed=config.seed,
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


def describe_calibration(
    scaling: LogitScaling, films: dict[str, LabelledFilms], log_odds: LogOdds, class_weights: dict[int, float]
) -> dict[str, Any]:
    """What the scores mean: their scaling, its gain on validation films, the prevalence they speak of."""
    labels, logits = films["val"].labels, log_odds.mean(axis=1, dtype=np.float64)
    normal, pneumonia = count_classes(films["train"].labels)
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


def write_scores(
    folder: RunFolder,
    split: str,
    films: LabelledFilms,
    scores: Scores,
    judgement: Judgement,
    prevalence: float | None = None,
) -> None:
    """Writes `scores_<split>.csv` and `metrics_<split>.json`, figures at 0.5 beside those of the run."""
    document = {
        "split": split,
        "films_sha256": films.fingerprint,
        "stated_prevalence": prevalence,
        **judgement.to_dict(),
    }
    folder.write_text(f"scores_{split}.csv", format_scores(films.labels, scores))
    folder.write_json(f"metrics_{split}.json", document)
