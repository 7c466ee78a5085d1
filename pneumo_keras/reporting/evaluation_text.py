"""An evaluation and a comparison as text, for a terminal."""

import math
from collections.abc import Mapping, Sequence

from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import LEVEL
from pneumo_keras.evaluation.metrics import ConfusionCounts
from pneumo_keras.evaluation.patients import PatientCounts
from pneumo_keras.evaluation.prediction import FAR
from pneumo_keras.evaluation.report_card import Evaluation, OutOfDistribution, ThresholdMetrics
from pneumo_keras.evaluation.spread import MemberSpread
from pneumo_keras.reporting.numbers import (
    DASH,
    format_bounds,
    format_number,
    format_percent,
    format_share,
)
from pneumo_keras.reporting.robustness import ALIGN, HEADER, describe_robustness, list_rows
from pneumo_keras.reporting.tables import format_table
from pneumo_keras.storage.printable import to_amount, to_printable

SHOWN = ("auc", "accuracy", "sensitivity", "specificity")
PERTURBED = (*SHOWN, "log_loss", "brier_loss", "calibration_error")
LABELS = {
    "auc": "AUC",
    "precision_pneumonia": "precision pneumonia (PPV)",
    "precision_normal": "precision normal (NPV)",
}
DIGITS = 4
PAIRED_BY_PATH = (
    "The files of one folder were prepared otherwise for the two runs: images are paired by their paths."
)


def format_evaluation(evaluation: Evaluation, *, heading: str) -> str:
    """Every figure with its interval, the confusion counts, and the spread over members.

    Args:
        evaluation: Of one split.
        heading: Names the run and the split.
    """
    at_threshold = evaluation.at_threshold
    rows = [
        [
            name_figure(name),
            format_number(figure.value, digits=DIGITS),
            format_bounds(figure.low, figure.high, digits=DIGITS),
            figure.method,
        ]
        for name, figure in at_threshold.figures.items()
    ]
    table = format_table(
        rows, header=("", "value", f"{format_share(at_threshold.level)} interval", "method"), align="lrll"
    )
    parts = [
        to_printable(heading),
        table,
        describe_one_class(at_threshold),
        describe_patients(at_threshold.patients, at_threshold.n),
        describe_short_intervals(at_threshold.counts, at_threshold.short_intervals),
        "\n".join(_list_counts(evaluation)),
        _format_outside(evaluation),
        _format_new_patients(evaluation),
        _format_perturbation(evaluation),
        _format_members(evaluation.members),
    ]
    if at_threshold.stated_prevalence is not None:
        parts.insert(1, describe_correction(at_threshold.stated_prevalence))
    return "\n\n".join(part for part in parts if part)


def describe_correction(prevalence: float) -> str:
    """What a stated prevalence changes and what it leaves alone, in one paragraph."""
    return (
        f"Corrected to a prevalence of {format_share(prevalence)}: scores, threshold, PPV, NPV and the other "
        "figures that depend on how common pneumonia is speak of such a population. Counts are of the images "
        "as they are, and every image is called as it is without the correction."
    )


def describe_short_intervals(counts: ConfusionCounts, names: Sequence[str]) -> str:
    """Which intervals are known to be too short for so few images, in one sentence; empty if none is."""
    if not names:
        return ""
    return (
        f"Few images ({counts.tn + counts.fp} normal, {counts.fn + counts.tp} pneumonia): the intervals of "
        f"{', '.join(map(name_figure, names))} hold the true figure less often than in {format_share(LEVEL)} "
        "of cases."
    )


def describe_one_class(at_threshold: ThresholdMetrics) -> str:
    """What cannot be said of images of one class, in one sentence; empty where there are both."""
    counts = at_threshold.counts
    normal, pneumonia = counts.tn + counts.fp, counts.fn + counts.tp
    if normal and pneumonia:
        return ""
    held, left = ("normal", "specificity") if normal else ("pneumonia", "sensitivity")
    undefined = [name_figure(name) for name, one in at_threshold.figures.items() if math.isnan(one.value)]
    return (
        f"All {counts.n:,} images are {held}: what takes both classes is undefined "
        f"({', '.join(undefined)}). The accuracy is the {left}, and losses speak of this class alone."
    )


def describe_backwards(at_threshold: ThresholdMetrics) -> str:
    """What to check where scores rank images backwards, in two sentences; empty where they do not."""
    if not at_threshold.ranks_backwards:
        return ""
    auc = at_threshold.figures["auc"]
    return (
        f"The AUC is {format_number(auc.value, digits=DIGITS)} ({format_share(at_threshold.level)} interval "
        f"{format_bounds(auc.low, auc.high, digits=DIGITS)}), clearly below 0.5: scores rank the images "
        "backwards. The labels may be swapped: check that label 1, in a folder the class that data.positive "
        "names, is pneumonia."
    )


def name_figure(name: str) -> str:
    """As people write it."""
    return LABELS.get(name, name.replace("_", " "))


def _list_counts(evaluation: Evaluation) -> list[str]:
    lines = [_format_counts(evaluation.at_threshold)]
    at_half = evaluation.at_half
    if at_half.threshold != evaluation.at_threshold.threshold:
        values = {name: at_half.figures[name].value for name in SHOWN[1:]}
        figures = ", ".join(f"{name} {format_number(value, digits=DIGITS)}" for name, value in values.items())
        lines += [_format_counts(at_half), f"There: {figures}."]
    return lines


def _format_counts(at_threshold: ThresholdMetrics) -> str:
    counts = at_threshold.counts
    sick, normal = counts.tp + counts.fn, counts.tn + counts.fp
    return (
        f"At threshold {at_threshold.threshold:.4g}: {counts.tp} of {to_amount(sick, 'pneumonia image')} found, "
        f"{counts.tn} of {to_amount(normal, 'normal image')} called normal "
        f"(tn {counts.tn}, fp {counts.fp}, fn {counts.fn}, tp {counts.tp})."
    )


def describe_outside(outside: OutOfDistribution, n: int) -> str:
    """How many images are out of distribution, in one sentence.

    Args:
        outside: What was counted.
        n: Images in all.
    """
    if not outside.n:
        return f"None of the {n:,} images lies outside the range of the training images."
    verb = "lies" if outside.n == 1 else "lie"
    return (
        f"{outside.n:,} of {n:,} images ({format_percent(outside.n / n)}) {verb} "
        f"outside the range of the training images, {outside.far_outside:,} of them far outside (more than "
        f"{FAR:g} times the limit), where predictions are of no use."
    )


def _format_outside(evaluation: Evaluation) -> str:
    """How many images are out of distribution, and the figures with and without them."""
    outside = evaluation.out_of_distribution
    if outside is None:
        return ""
    said = describe_outside(outside, evaluation.at_threshold.n)
    if outside.inside is None:
        return said
    return f"{said}\n\n{_format_beside(evaluation.at_threshold, outside.inside, 'others')}"


def describe_patients(patients: PatientCounts | None, n: int) -> str:
    """What intervals resample where patients are known, in one sentence; empty where they are not.

    Args:
        patients: Of the images, where known.
        n: Images.
    """
    if patients is None:
        return ""
    return (
        f"Images of one patient resemble each other: intervals resample the {patients.all:,} patients of the "
        f"{n:,} images ({patients.normal:,} with normal, {patients.pneumonia:,} with pneumonia; an image "
        "whose patient is unknown counts as one)."
    )


def describe_new_patients(evaluation: Evaluation) -> str:
    """How many images show patients that are new to the run, in one sentence; empty where nobody knows."""
    new = evaluation.new_patients
    if new is None:
        return ""
    return (
        f"{new.n:,} of {evaluation.at_threshold.n:,} images are of known patients of whom the run has learnt "
        "from no image that is known: their figures speak of new patients."
    )


def _format_new_patients(evaluation: Evaluation) -> str:
    new = evaluation.new_patients
    if new is None:
        return ""
    table = _format_beside(evaluation.at_threshold, new, "of new patients")
    return f"{describe_new_patients(evaluation)}\n\n{table}"


def _format_beside(at_threshold: ThresholdMetrics, part: ThresholdMetrics, name: str) -> str:
    """Figures of all images beside those of some."""
    rows = [
        [
            name_figure(figure),
            *(
                text
                for one in (at_threshold, part)
                for text in (
                    format_number(one.figures[figure].value, digits=DIGITS),
                    format_bounds(one.figures[figure].low, one.figures[figure].high, digits=DIGITS),
                )
            ),
        ]
        for figure in SHOWN
    ]
    interval = f"{format_share(at_threshold.level)} interval"
    header = ("", "all images", interval, f"the {part.n:,} {name}", interval)
    return format_table(rows, header=header, align="lrlrl")


def _format_perturbation(evaluation: Evaluation) -> str:
    """What perturbation of the same images makes of the figures: all at once, and by kind."""
    if evaluation.perturbed is None:
        return ""
    plain, perturbed = evaluation.at_threshold, evaluation.perturbed.evaluation.at_threshold
    changes = evaluation.perturbed.changes
    rows = [
        [
            name_figure(name),
            *(format_number(one.figures[name].value, digits=DIGITS) for one in (plain, perturbed)),
            format_number(changes[name].value, digits=DIGITS, sign="+"),
            format_bounds(changes[name].low, changes[name].high, digits=DIGITS, sign="+"),
        ]
        for name in PERTURBED
    ]
    header = ("the same images", "as they are", "perturbed", "change", "95 % interval, paired")
    robustness = evaluation.perturbed.robustness
    by_kind = format_table(list_rows(robustness), header=HEADER, align=ALIGN)
    combined = format_table(rows, header=header, align="lrrrl")
    return "\n\n".join([combined, by_kind, describe_robustness(robustness)])


def _format_members(members: Mapping[str, MemberSpread]) -> str:
    if not members:
        return ""
    rows = [
        [
            name_figure(name),
            format_number(members[name].mean, digits=DIGITS),
            format_number(members[name].deviation, digits=DIGITS),
            format_bounds(min(members[name].values), max(members[name].values), digits=DIGITS),
        ]
        for name in SHOWN
    ]
    count = len(members["auc"].values)
    header = (f"each of {count} members", "mean", "deviation", "lowest to highest")
    return format_table(rows, header=header, align="lrrl")


def format_differences(
    differences: Mapping[str, Difference],
    *,
    heading: str,
    changed: Mapping[str, tuple[str, str]],
    cautions: Sequence[str] = (),
) -> str:
    """Every paired difference with its interval and p-value, and what made it as far as settings tell.

    Args:
        differences: By the name of the figure, second minus first.
        heading: Names the runs and the split.
        changed: Settings in which the runs differ, by dotted key: the first run's value and the second's.
        cautions: What to know of the intervals; "" for nothing.
    """
    rows = [
        [
            name_figure(name),
            format_number(one.value, digits=DIGITS, sign="+"),
            format_bounds(one.low, one.high, digits=DIGITS, sign="+"),
            format_number(one.p_value, digits=DIGITS),
            one.method,
        ]
        for name, one in differences.items()
    ]
    table = format_table(rows, header=("", "difference", "95 % interval", "p", "method"), align="lrlrl")
    settings = format_table(
        [[key, first or DASH, second or DASH] for key, (first, second) in changed.items()],
        header=("setting", "first", "second"),
    )
    return "\n\n".join(
        part
        for part in (to_printable(heading), table, *cautions, settings, explain_difference(changed))
        if part
    )


def explain_difference(changed: Mapping[str, tuple[str, str]]) -> str:
    """How much of a difference is the luck of a seed, as far as the settings of two runs can tell."""
    if not changed:
        return (
            "No setting differs: a difference comes from the machine or the versions, see environment.json "
            "of each run."
        )
    if set(changed) == {"seed"}:
        return "Only the seed differs: this is what the luck of a seed does."
    return (
        "Intervals and p speak of other images, not of other seeds: two seeds of the same settings can differ "
        "as much.\nTo find out, train each with several seeds, or with training.members above 1, whose "
        "spread eval shows."
    )
