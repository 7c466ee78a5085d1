"""The interval that suits each figure."""

from collections.abc import Mapping

import numpy as np

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.bootstrap import (
    draw_chance_errors,
    draw_precisions_and_gaps,
    to_average_precision_interval,
    to_calibration_interval,
)
from pneumo_keras.evaluation.combined_intervals import to_f1_interval, to_mean_interval
from pneumo_keras.evaluation.figures import to_film_losses, to_resampled_gaps
from pneumo_keras.evaluation.intervals import (
    LEVEL,
    Interval,
    to_auc_interval,
    to_precision_interval,
    to_wilson_interval,
)
from pneumo_keras.evaluation.loss_intervals import to_loss_interval
from pneumo_keras.evaluation.metrics import Calls, ConfusionCounts, count_calls, to_share
from pneumo_keras.evaluation.prevalence import weigh_films


def to_intervals(
    values: Mapping[str, float],
    labels: Labels,
    scores: Scores,
    calls: Calls,
    *,
    prevalence: float | None = None,
    resamples: int,
    seed: int,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """The interval of every figure, in the order of the values.

    Shares of films get Wilson's, what is made of two of them MOVER's, the AUC DeLong's, losses Hall's,
    average precision and calibration error the stratified bootstrap's.

    Args:
        values: Of `to_figures`, for the same arguments.
        labels: Of the films.
        scores: See `to_figures`.
        calls: Which films are called pneumonia.
        prevalence: See `to_figures`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        level: Of the intervals.
    """
    drawing = {"prevalence": prevalence, "resamples": resamples, "seed": seed}
    intervals = {
        "auc": to_auc_interval(labels, scores, level=level),
        **to_call_intervals(values, count_calls(labels, calls), prevalence, level=level),
        **to_score_intervals(values, labels, scores, level=level, **drawing),
    }
    return {name: intervals[name] for name in values}


def to_score_intervals(
    values: Mapping[str, float],
    labels: Labels,
    scores: Scores,
    *,
    prevalence: float | None,
    resamples: int,
    seed: int,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Of the figures, but for the AUC, that depend on scores and not on calls."""
    weights = weigh_films(labels, prevalence)
    drawing = {"prevalence": prevalence, "resamples": resamples, "seed": seed}
    precisions, draws = draw_precisions_and_gaps(labels, scores, **drawing)
    chance = draw_chance_errors(labels, scores, **drawing)
    (gaps,) = to_resampled_gaps(labels, scores, weights, np.ones((1, len(labels)), dtype=np.int64))
    return {
        "average_precision": to_average_precision_interval(
            values["average_precision"], labels, precisions, level=level
        ),
        **{
            name: to_loss_interval(values[name], labels, weights * losses, level=level)
            for name, losses in to_film_losses(labels, scores).items()
        },
        "calibration_error": to_calibration_interval(gaps, draws, chance, level=level),
    }


def to_call_intervals(
    values: Mapping[str, float], counts: ConfusionCounts, prevalence: float | None, *, level: float = LEVEL
) -> dict[str, Interval]:
    """In closed form, of the figures that depend on calls and of the prevalence."""
    tn, fp, fn, tp = counts.tn, counts.fp, counts.fn, counts.tp
    sensitivity = to_wilson_interval(tp, tp + fn, level=level)
    specificity = to_wilson_interval(tn, tn + fp, level=level)
    share = to_share(tp + fn, counts.n) if prevalence is None else prevalence
    intervals = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": to_mean_interval(values["balanced_accuracy"], sensitivity, specificity),
        "f1_pneumonia": to_f1_interval(values["f1_pneumonia"], sensitivity, specificity, share=share),
        "f1_normal": to_f1_interval(values["f1_normal"], specificity, sensitivity, share=1 - share),
    }
    if prevalence is None:
        shares = {
            "accuracy": (tn + tp, counts.n),
            "precision_pneumonia": (tp, tp + fp),
            "precision_normal": (tn, tn + fn),
            "prevalence": (tp + fn, counts.n),
        }
        return intervals | {name: to_wilson_interval(*share, level=level) for name, share in shares.items()}
    return intervals | {
        "accuracy": to_mean_interval(values["accuracy"], sensitivity, specificity, share=prevalence),
        "precision_pneumonia": to_precision_interval(
            tp, tp + fn, fp, tn + fp, prevalence=prevalence, level=level
        ),
        "precision_normal": to_precision_interval(
            tn, tn + fp, fn, tp + fn, prevalence=1 - prevalence, level=level
        ),
        "prevalence": Interval(prevalence, prevalence, prevalence, "stated"),
    }
