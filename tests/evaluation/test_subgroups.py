import math

import numpy as np
import pytest

from pneumo_keras.evaluation.intervals import to_auc_interval, to_wilson_interval
from pneumo_keras.evaluation.subgroups import MOST_NUMBERS, MOST_VALUES, evaluate_subgroups

LABELS = np.array([0, 0, 1, 1, 0, 1, 0, 1], dtype=np.int64)
SCORES = np.array([0.1, 0.6, 0.4, 0.8, 0.2, 0.9, 0.3, 0.7])
SEX = ["F", "M", "F", "M", "", "F", "F", "M"]


def divide(values):
    """The subgroups of as many images by one column, with their numbers of images, and what is left out."""
    labels = np.arange(len(values)) % 2
    found, left_out = evaluate_subgroups(labels, labels * 0.8, labels == 1, {"column": values})
    return [(one.value, one.n) for one in found], left_out


def test_each_value_has_the_figures_of_its_images():
    (female, male, missing), left_out = evaluate_subgroups(LABELS, SCORES, SCORES > 0.5, {"sex": SEX})
    assert [(one.column, one.value, one.n) for one in (female, male, missing)] == [
        ("sex", "F", 4),
        ("sex", "M", 3),
        ("sex", None, 1),
    ]
    assert left_out == []
    own = np.array([0, 2, 5, 6])
    assert vars(female.counts) == {"tn": 2, "fp": 0, "fn": 1, "tp": 1}
    assert female.figures == {
        "prevalence": to_wilson_interval(0.5, 4),
        "auc": to_auc_interval(LABELS[own], SCORES[own]),
        "sensitivity": to_wilson_interval(0.5, 2),
        "specificity": to_wilson_interval(1.0, 2),
    }
    assert [math.isnan(one.value) for one in missing.figures.values()] == [False, True, True, False]


def test_images_of_a_patient_count_together():
    patients = np.array([0, 1, 0, 2, 3, 0, 4, 1])
    (female, *_), _ = evaluate_subgroups(LABELS, SCORES, SCORES > 0.5, {"sex": SEX}, patients)
    assert female.figures["prevalence"].method == "Wilson, by patient"
    assert female.figures["prevalence"].low < to_wilson_interval(0.5, 4).low
    patients = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    (female, *_), _ = evaluate_subgroups(LABELS, SCORES, SCORES > 0.5, {"sex": SEX}, patients)
    assert female.figures["prevalence"].method == "Wilson"


def test_many_numbers_are_divided_by_quartiles_and_few_are_not():
    assert divide(["3", "10.5", "1e0", "2", "", "4", "3", "9"]) == (
        [("1 to 2", 2), ("3", 2), ("4", 1), ("9 to 10.5", 2), (None, 1)],
        [],
    )
    few = [str(index % MOST_NUMBERS) for index in range(20)]
    assert divide(few) == ([(str(index), 4) for index in range(MOST_NUMBERS)], [])


@pytest.mark.parametrize("odd", ["x", "inf", "nan"])
def test_numbers_among_texts_are_texts(odd):
    values = [*map(str, range(MOST_NUMBERS)), odd]
    assert divide(values) == ([(value, 1) for value in values], [])


def test_texts_of_too_many_values_are_left_out():
    values = [f"x{index:02}" for index in range(MOST_VALUES)]
    assert divide(values) == ([(value, 1) for value in values], [])
    assert divide([*values, "more", ""]) == ([], ["column"])


def test_a_column_without_values_is_missing_of_all_images():
    assert divide([""] * 4) == ([(None, 4)], [])
