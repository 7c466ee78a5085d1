"""The interval that suits each figure."""

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.bootstrap import (
    draw_chance_errors,
    draw_precisions_and_gaps,
    to_average_precision_interval,
    to_calibration_interval,
)
from pneumo_keras.evaluation.combined_intervals import to_f1_interval, to_mean_interval
from pneumo_keras.evaluation.figures import to_image_losses, to_resampled_gaps
from pneumo_keras.evaluation.intervals import (
    LEVEL,
    Interval,
    to_auc_interval,
    to_precision_interval,
    to_share_interval,
)
from pneumo_keras.evaluation.loss_intervals import to_loss_interval
from pneumo_keras.evaluation.metrics import Calls, to_prevalence
from pneumo_keras.evaluation.patients import (
    BY_PATIENT,
    Patients,
    count_rarer,
    select_patients,
    to_effective_size,
)
from pneumo_keras.evaluation.prevalence import weigh_images


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
    patients: Patients | None = None,
) -> dict[str, Interval]:
    """The interval of every figure, in the order of the values.

    Shares of images get Wilson's, what is made of two of them MOVER's, the AUC DeLong's, losses Hall's,
    average precision and calibration error the stratified bootstrap's. Of known patients all of them take
    the images of one together.

    Args:
        values: Of `to_figures`, for the same arguments.
        labels: Of the images.
        scores: See `to_figures`.
        calls: Which images are called pneumonia.
        prevalence: See `to_figures`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        level: Of the intervals.
        patients: Of the images, where known.
    """
    drawing = {"prevalence": prevalence, "resamples": resamples, "seed": seed, "patients": patients}
    intervals = {
        "auc": to_auc_interval(labels, scores, patients, level=level),
        **to_call_intervals(values, labels, calls, prevalence, patients, level=level),
        **to_score_intervals(values, labels, scores, level=level, **drawing),
    }
    by = "" if patients is None else BY_PATIENT
    return {name: _complete(intervals[name], value, by) for name, value in values.items()}


def _complete(interval: Interval, value: float, by: str) -> Interval:
    """The interval of a figure that is undefined is, too: of a precision where one class is missing.

    A figure stands where its interval alone is undefined: of a precision where a class is of one patient.
    """
    if math.isnan(value):
        found = Interval(value, math.nan, math.nan, interval.method)
    else:
        found = replace(interval, value=value) if math.isnan(interval.value) else interval
    return replace(found, method=found.method + by)


def to_score_intervals(
    values: Mapping[str, float],
    labels: Labels,
    scores: Scores,
    *,
    prevalence: float | None,
    resamples: int,
    seed: int,
    level: float = LEVEL,
    patients: Patients | None = None,
) -> dict[str, Interval]:
    """Of the figures, but for the AUC, that depend on scores and not on calls."""
    weights = weigh_images(labels, prevalence)
    drawing = {"prevalence": prevalence, "resamples": resamples, "seed": seed, "patients": patients}
    precisions, draws = draw_precisions_and_gaps(labels, scores, **drawing)
    chance = draw_chance_errors(labels, scores, **drawing)
    (gaps,) = to_resampled_gaps(labels, scores, weights, np.ones((1, len(labels)), dtype=np.int64))
    return {
        "average_precision": to_average_precision_interval(
            values["average_precision"], precisions, rarer=count_rarer(labels, patients), level=level
        ),
        **{
            name: to_loss_interval(values[name], labels, weights * losses, patients, level=level)
            for name, losses in to_image_losses(labels, scores).items()
        },
        "calibration_error": to_calibration_interval(gaps, draws, chance, level=level),
    }


def to_call_intervals(
    values: Mapping[str, float],
    labels: Labels,
    calls: Calls,
    prevalence: float | None,
    patients: Patients | None = None,
    *,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """In closed form, of the figures that depend on calls and of the prevalence."""
    pneumonia, normal = labels == 1, labels == 0
    to_interval = functools.partial(to_share_interval, patients=patients, level=level)
    sensitivity, specificity = to_interval(calls, pneumonia), to_interval(~calls, normal)
    share = to_prevalence(labels) if prevalence is None else prevalence
    intervals = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": to_mean_interval(values["balanced_accuracy"], sensitivity, specificity),
        "f1_pneumonia": to_f1_interval(values["f1_pneumonia"], sensitivity, specificity, share=share),
        "f1_normal": to_f1_interval(values["f1_normal"], specificity, sensitivity, share=1 - share),
    }
    if prevalence is None:
        return intervals | {
            "accuracy": to_interval(calls == pneumonia, labels >= 0),
            "precision_pneumonia": to_interval(pneumonia, calls),
            "precision_normal": to_interval(normal, ~calls),
            "prevalence": to_interval(pneumonia, labels >= 0),
        }
    found, ill = _to_effective_counts(calls, pneumonia, patients, level)
    alarms, well = _to_effective_counts(calls, normal, patients, level)
    precise = functools.partial(to_precision_interval, level=level)
    return intervals | {
        "accuracy": to_mean_interval(values["accuracy"], sensitivity, specificity, share=prevalence),
        "precision_pneumonia": precise(found, ill, alarms, well, prevalence=prevalence),
        "precision_normal": precise(well - alarms, well, ill - found, ill, prevalence=1 - prevalence),
        "prevalence": Interval(prevalence, prevalence, prevalence, "stated"),
    }


def _to_effective_counts(
    calls: Calls, inside: Calls, patients: Patients | None, level: float
) -> tuple[float, float]:
    """Images of a class called pneumonia, and all of them, as many as tell as much when independent."""
    n = int(inside.sum())
    size = to_effective_size(calls[inside], select_patients(patients, inside), level=level)
    return int(calls[inside].sum()) * (size / n), size
