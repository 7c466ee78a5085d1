import math
from dataclasses import replace

import numpy as np
import pytest

from pneumo_keras.evaluation.comparison import Difference, compare_figures
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import PerturbedEvaluation, evaluate, evaluate_at
from pneumo_keras.reporting.evaluation_text import describe_backwards, format_differences, format_evaluation
from tests.robustness import build_robustness

LABELS = np.array([0, 0, 0, 1, 1, 1], dtype=np.int64)
SCORES = np.array([0.1, 0.3, 0.6, 0.4, 0.8, 0.9])
DIFFERENCES = {
    "auc": Difference(0.012, -0.004, 0.028, 0.14, "DeLong, paired"),
    "specificity": Difference(0.0, math.nan, math.nan, 1.0, "bootstrap"),
}


def test_every_figure_stands_in_a_line_with_its_interval():
    evaluation = evaluate(LABELS, SCORES, 0.5, members=[], seed=1)
    lines = format_evaluation(evaluation, heading="runs/one, split test").splitlines()
    assert lines[0] == "runs/one, split test"
    assert lines[2].split() == ["value", "95", "%", "interval", "method"]
    auc = evaluation.figures["auc"]
    (line,) = [line for line in lines if line.startswith("AUC")]
    assert line.split("  ")[-1] == auc.method
    assert f"{auc.value:.4f}  {auc.low:.4f} to {auc.high:.4f}" in line
    assert sum("(PPV)" in line or "(NPV)" in line for line in lines) == 2
    assert lines[-1].endswith("(tn 2, fp 1, fn 1, tp 2).")
    assert "Corrected" not in "\n".join(lines)


def test_a_figure_without_an_interval_has_a_dash():
    flawless = evaluate(LABELS, LABELS * 0.8 + 0.1, 0.5, members=[], seed=1)
    text = format_evaluation(flawless, heading="")
    assert "nan" not in text
    assert "average precision          1.0000  -" in text


def test_a_corrected_evaluation_is_named_as_one():
    evaluation = evaluate(LABELS, SCORES, 0.5, members=[], seed=1, shift=PrevalenceShift(0.5, 0.1))
    lines = format_evaluation(evaluation, heading="runs/one").splitlines()
    assert lines[2].startswith("Corrected to a prevalence of 10 %: ")
    assert lines[2].endswith("no prediction changes.")


def test_intervals_that_are_too_short_for_so_few_images_are_named():
    text = format_evaluation(evaluate(LABELS, SCORES, 0.5, members=[], seed=1), heading="")
    assert (
        "\n\nFew images (3 normal, 3 pneumonia): the 95 % intervals of Brier loss, log loss contained the "
        "true value in as few as 87 % of simulated cases.\n\n"
    ) in text
    enough = evaluate(np.tile(LABELS, 20), np.tile(SCORES, 20), 0.5, members=[], seed=1)
    assert "Few images" not in format_evaluation(enough, heading="")


def test_subgroups_stand_in_lines_with_their_columns():
    columns = {"sex": ["F", "F", "M", "M", "M", ""], "text": list("abcdef"), "id": ["x"] * 6}
    evaluation = evaluate(LABELS, SCORES, 0.5, members=[], seed=1, columns=columns)
    text = format_evaluation(evaluation, heading="")
    lines = [line.split("  ") for line in text.splitlines()]
    rows = {cells[0]: [cell.strip() for cell in cells[1:] if cell] for cells in lines}
    assert rows["sex: F"] == ["2", "0.000", "-", "-", "1.000 (0.342 to 1.000)"]
    assert rows["sex: M"][:2] == ["3", "0.667"]
    assert rows["sex: missing"] == ["1", "1.000", "-", "1.000 (0.207 to 1.000)", "-"]
    assert "Among many subgroups, some differ by chance." in text and "no subgroups" not in text
    assert "ubgroup" not in format_evaluation(replace(evaluation, subgroups=[]), heading="")
    many = replace(evaluation, ungrouped_columns=["id\n"])
    assert "Columns with more than 12 different texts have no subgroups: id\\n." in format_evaluation(
        many, heading=""
    )


def test_scores_that_rank_backwards_are_said_to():
    assert describe_backwards(evaluate_at(LABELS, SCORES, 0.5, resamples=20, seed=1)) == ""
    labels, scores = np.repeat([0, 1], 20), np.linspace(0.1, 0.9, 40)
    text = describe_backwards(evaluate_at(1 - labels, scores, 0.5, resamples=20, seed=1))
    assert text.startswith("The AUC is 0.0000 (95 % interval 0.0000 to 0.")
    assert text.endswith(
        "clearly below 0.5: scores rank the images backwards. The labels may be swapped: check that label 1, "
        "in a folder the class that data.positive names, is pneumonia."
    )


def test_members_stand_below():
    evaluation = evaluate(LABELS, SCORES, 0.5, members=[SCORES, 1 - SCORES], seed=1)
    *_, header, _, accuracy, _, _ = format_evaluation(evaluation, heading="").splitlines()
    assert header == "each of 2 members    mean  deviation  lowest to highest"
    assert accuracy == "accuracy           0.5000     0.2357  0.3333 to 0.6667"


def test_perturbed_figures_stand_beside_the_plain_ones():
    evaluation = evaluate(LABELS, SCORES, 0.5, members=[], seed=1)
    under = evaluate(LABELS, 1 - SCORES, 0.5, members=[], seed=1)
    changes = compare_figures(LABELS, SCORES, 1 - SCORES, first_threshold=0.5, second_threshold=0.5, seed=1)
    perturbed = PerturbedEvaluation(
        **vars(under), changes=changes, perturbation={}, robustness=build_robustness()
    )
    assert "perturbed" not in format_evaluation(evaluation, heading="")
    lines = format_evaluation(replace(evaluation, perturbed=perturbed), heading="").splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("the same images"))
    assert lines[start].split("  ")[-1] == "95 % interval, paired"
    accuracy = next(line for line in lines[start:] if line.startswith("accuracy"))
    assert accuracy.split()[1:4] == ["0.6667", "0.3333", "-0.3333"]
    *_, header, plain, gamma, rotation, _, meaning = lines
    assert header.split()[-2:] == ["to", "AlexNet"]
    assert plain.split() == [
        *("unperturbed", "0.950", "0.900", "0.800", "0.700", "0.050", "+0.00", "0.0", "%", "2.0", "%", "0.50")
    ]
    assert gamma.split()[:3] == ["gamma", "up", "0.850"]
    assert gamma.split()[-1] == f"{0.3 / 0.09606837606837607:.2f}"
    assert rotation.split()[-1] == "-"
    assert meaning.endswith(f"medmnistc 0.1.0: {0.3 / 0.09606837606837607:.3f}.")


def test_a_difference_without_an_interval_has_a_dash():
    lines = format_differences(DIFFERENCES, heading="two minus one", changed={}).splitlines()
    assert lines[3] == "AUC             +0.0120  -0.0040 to +0.0280  0.1400  DeLong, paired"
    assert lines[4] == "specificity     +0.0000  -                   1.0000  bootstrap"


def test_runs_that_agree_print_no_nan():
    same = compare_figures(LABELS, SCORES, SCORES, first_threshold=0.5, second_threshold=0.5, seed=1)
    assert "nan" not in format_differences(same, heading="", changed={})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "No setting differs: a difference comes from the images, the machine or the versions"),
        ({"seed": ("1", "2")}, "Only the seed differs: this is seed variance."),
        (
            {"seed": ("1", "2"), "model.dropout": ("0.5", "")},
            "two seeds of the same settings can differ as much",
        ),
    ],
)
def test_a_difference_is_explained_by_the_settings_that_differ(changed, words):
    text = format_differences(DIFFERENCES, heading="", changed=changed)
    assert words in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for key, (first, second) in changed.items():
        assert f"{key} {first} {second or '-'}" in lines
    assert ("setting first second" in lines) == bool(changed)


def test_images_out_of_distribution_are_told_with_figures_without_them():
    distances = np.array([0.5, 1.2, 0.5, 1.7, 0.5, 0.5])
    evaluation = evaluate(LABELS, SCORES, 0.5, members=[], seed=1, distances=distances)
    text = format_evaluation(evaluation, heading="")
    assert (
        "2 of 6 images (33.3 %) are out of distribution, 1 of them far (more than 1.5 times the limit), "
        "where predictions are of no use."
    ) in text
    (header,) = [line for line in text.splitlines() if "the 4 others" in line]
    assert header.split("  ")[0] == "" and "all images" in header
    (row,) = [line for line in text.splitlines() if line.startswith("accuracy") and "0.7500" in line]
    assert "0.6667" in row


def test_no_image_out_of_distribution_is_told_in_one_sentence():
    evaluation = evaluate(LABELS, SCORES, 0.5, members=[], seed=1, distances=np.full(6, 0.5))
    text = format_evaluation(evaluation, heading="")
    assert "None of the 6 images is out of distribution." in text
    assert "others" not in text


def test_nothing_is_told_of_images_that_nobody_measured():
    assert "range" not in format_evaluation(evaluate(LABELS, SCORES, 0.5, members=[], seed=1), heading="")
