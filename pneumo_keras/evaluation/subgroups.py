"""Metrics by subgroup: by age, sex, projection, or whatever else is stated of each image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from pneumo_keras.arrays import Labels, Scores
from pneumo_keras.evaluation.intervals import BY_PATIENT, Interval, to_auc_interval, to_share_interval
from pneumo_keras.evaluation.metrics import ConfusionCounts, Predicted, count_predictions
from pneumo_keras.evaluation.patients import Patients, select_patients

MOST_VALUES = 12
"""Different texts of a column of which each is a subgroup."""
MOST_NUMBERS = 5
"""The same of numbers; more are taken by quartiles."""
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Subgroup:
    """Images with one value of a column, or numbers of one range.

    Attributes:
        column: Name of the column.
        value: The value, or the range as `1.2 to 3`; None where it is missing.
        n: Number of images.
        counts: Images by label and prediction.
        figures: Prevalence (of these images, whatever is stated), AUC, sensitivity and specificity.
    """

    column: str
    value: str | None
    n: int
    counts: ConfusionCounts
    figures: dict[str, Interval]


def evaluate_subgroups(
    labels: Labels,
    scores: Scores,
    predicted: Predicted,
    columns: Mapping[str, Sequence[str]],
    patients: Patients | None = None,
) -> tuple[list[Subgroup], list[str]]:
    """The subgroups by each column, and the columns without any: texts with too many different values.

    `columns` has a value for each image, "" where it is missing.
    """
    subgroups, left_out = [], []
    for column, values in columns.items():
        parts = list(_divide(np.array(values, object)))
        left_out += [] if parts else [column]
        for value, inside in parts:
            own, truth, found = select_patients(patients, inside), labels[inside], predicted[inside]
            ill = truth == 1
            figures = {
                "prevalence": to_share_interval(ill, truth >= 0, own),
                "auc": to_auc_interval(truth, scores[inside], own),
                "sensitivity": to_share_interval(found, ill, own),
                "specificity": to_share_interval(~found, ~ill, own),
            }
            if own is not None:
                figures = {
                    name: replace(one, method=one.method + BY_PATIENT) for name, one in figures.items()
                }
            subgroups.append(Subgroup(column, value, len(truth), count_predictions(truth, found), figures))
    return subgroups, left_out


def _divide(values: Any) -> Iterator[tuple[str | None, Bool[np.ndarray, " n"]]]:
    """The values of a column, or the quartiles of its numbers, with their images; the missing ones last."""
    known = values != ""
    distinct = sorted(set(values[known]))
    numbers = np.array(list(map(_to_number, distinct)))
    if np.isfinite(numbers).all() and len(distinct) > MOST_NUMBERS:
        of_images = np.array(list(map(_to_number, values)))
        quartiles = np.searchsorted(np.quantile(of_images[known], QUARTILES), of_images)
        for quartile in np.unique(quartiles[known]):
            inside = known & (quartiles == quartile)
            low, high = of_images[inside].min(), of_images[inside].max()
            yield f"{low:.10g} to {high:.10g}" if low < high else f"{low:.10g}", inside
    elif len(distinct) <= MOST_VALUES:
        yield from ((value, values == value) for value in distinct)
    else:
        return
    if not known.all():
        yield None, ~known


def _to_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
