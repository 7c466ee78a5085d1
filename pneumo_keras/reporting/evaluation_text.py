"""An evaluation and a comparison as text, for a terminal."""

import math
from collections.abc import Mapping, Sequence

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.data.overlap import count_shared, have_several_numberings
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import LEVEL, SHORT_COVERAGE, Interval
from pneumo_keras.evaluation.patients import PatientCounts
from pneumo_keras.evaluation.report_card import FAR, Evaluation, OutOfDistribution, ThresholdMetrics
from pneumo_keras.evaluation.robustness import PerturbedFigures, Robustness
from pneumo_keras.evaluation.subgroups import MOST_NUMBERS, MOST_VALUES, Subgroup
from pneumo_keras.reporting.formats import (
    DASH,
    format_bounds,
    format_number,
    format_percent,
    format_share,
    format_table,
    format_with_bounds,
)
from pneumo_keras.storage.printable import to_amount, to_printable

MAIN_FIGURES = ("auc", "accuracy", "sensitivity", "specificity")
SUBGROUP_FIGURES = ("auc", "sensitivity", "specificity")
PERTURBED_FIGURES = (*MAIN_FIGURES, "log_loss", "brier_loss", "calibration_error")
LABELS = {
    "auc": "AUC",
    "precision_pneumonia": "precision pneumonia (PPV)",
    "precision_normal": "precision normal (NPV)",
    "f1_pneumonia": "F1 pneumonia",
    "f1_normal": "F1 normal",
    "brier_loss": "Brier loss",
}
DIGITS = 4
INTERVAL = f"{format_share(LEVEL)} interval"
PAIRED_BY_PATH = (
    "The files of one folder were prepared differently for the two runs: images are paired by their paths."
)
ROBUSTNESS_HEADER = (
    *("kind, mean of five severities", "AUC", "accuracy", "sensitivity", "specificity", "balanced error"),
    *("log odds", "changed", "OOD", "relative to AlexNet"),
)


def format_evaluation(evaluation: Evaluation, *, heading: str) -> str:
    """Every metric of a split with its interval, the confusion counts, and the spread over members."""
    rows = [
        [name_figure(name), *_to_cells(figure), figure.method] for name, figure in evaluation.figures.items()
    ]
    outside, new = evaluation.out_of_distribution, evaluation.new_patients
    return _join(
        to_printable(heading),
        describe_correction(evaluation.stated_prevalence),
        format_table(rows, header=("", "value", INTERVAL, "method"), align="lrll"),
        describe_one_class(evaluation),
        describe_patients(evaluation.patients, evaluation.n),
        describe_short_intervals(evaluation),
        _format_counts(evaluation),
        describe_out_of_distribution(outside, evaluation.n),
        _format_part(evaluation, outside.inside if outside else None, "others"),
        describe_new_patients(evaluation),
        _format_part(evaluation, new, "of new patients"),
        _format_subgroups(evaluation),
        describe_subgroups(evaluation),
        _format_perturbed(evaluation),
        _format_members(evaluation),
    )


def describe_correction(prevalence: float | None) -> str:
    """What a stated prevalence changes and what it leaves alone; empty where none was stated."""
    if prevalence is None:
        return ""
    return (
        f"Corrected to a prevalence of {format_share(prevalence)}: scores, threshold, PPV, NPV and the other "
        "metrics that depend on how common pneumonia is describe such a population. Counts are of the images "
        "as they are, and no prediction changes."
    )


def describe_short_intervals(at_threshold: ThresholdMetrics) -> str:
    """Which intervals are known to be too short for so few images; empty if none is."""
    counts, names = at_threshold.patients or at_threshold.counts, at_threshold.short_intervals
    if not names:
        return ""
    few = "patients" if at_threshold.patients else "images"
    return (
        f"Few {few} ({counts.normal} normal, {counts.pneumonia} pneumonia): the {INTERVAL}s of "
        f"{', '.join(map(name_figure, names))} contained the true value in as few as {SHORT_COVERAGE} of "
        "simulated cases."
    )


def describe_one_class(at_threshold: ThresholdMetrics) -> str:
    """What is undefined for images of one class; empty where there are both."""
    counts = at_threshold.counts
    if counts.normal and counts.pneumonia:
        return ""
    kind, left = ("normal", "specificity") if counts.normal else ("pneumonia", "sensitivity")
    undefined = [name_figure(name) for name, one in at_threshold.figures.items() if math.isnan(one.value)]
    return (
        f"All {counts.n:,} images are {kind}: what takes both classes is undefined "
        f"({', '.join(undefined)}). The accuracy is the {left}, and losses are of this class alone."
    )


def describe_backwards(at_threshold: ThresholdMetrics) -> str:
    """What to check where scores rank images backwards; empty where they do not."""
    if not at_threshold.ranks_backwards:
        return ""
    auc = at_threshold.figures["auc"]
    return (
        f"The AUC is {format_number(auc.value, digits=DIGITS)} ({INTERVAL} "
        f"{format_bounds(auc.low, auc.high, digits=DIGITS)}), clearly below 0.5: scores rank the images "
        "backwards. The labels may be swapped: check that label 1, in a folder the class that data.positive "
        "names, is pneumonia."
    )


def describe_out_of_distribution(outside: OutOfDistribution | None, n: int) -> str:
    """How many of `n` images are out of distribution; empty where that was not looked for."""
    if outside is None:
        return ""
    if not outside.n:
        return f"None of the {n:,} images is out of distribution."
    verb = "is" if outside.n == 1 else "are"
    return (
        f"{outside.n:,} of {n:,} images ({format_percent(outside.n / n)}) {verb} out of distribution, "
        f"{outside.far_outside:,} of them far (more than {FAR:g} times the limit), where predictions are of "
        "no use."
    )


def describe_patients(patients: PatientCounts | None, n: int) -> str:
    """How the intervals of `n` images depend on patients; empty where no patient is known."""
    if patients is None:
        return ""
    return (
        f"Images of one patient resemble each other: intervals take the images of each of the "
        f"{patients.all:,} patients of the {n:,} images together ({patients.normal:,} patients with normal "
        f"images, {patients.pneumonia:,} with pneumonia; an image whose patient is unknown counts as a "
        "patient)."
    )


def describe_new_patients(evaluation: Evaluation) -> str:
    """How many images show patients that are new to the run; empty where that is unknown."""
    new = evaluation.new_patients
    if new is None:
        return ""
    return (
        f"{new.n:,} of {evaluation.n:,} images are of known patients with no known image among those that "
        "the run learnt from: their metrics describe new patients."
    )


def describe_seen(seen: int, n: int) -> str:
    """How many of `n` other images the run learnt from; empty for none."""
    if not seen:
        return ""
    return (
        f"{seen:,} of these {n:,} images {'is' if seen == 1 else 'are'} among the training and validation "
        "images of the run, by their pixels: the metrics are optimistically biased."
    )


def describe_subgroups(evaluation: Evaluation) -> str:
    """How to read metrics by subgroup, and which columns have none; empty without columns."""
    sentences = []
    if evaluation.subgroups:
        sentences += [
            "Subgroups are by the further columns of the CSV; numbers with more than "
            f"{MOST_NUMBERS} different values are divided into quarters.",
            "Among many subgroups, some differ by chance.",
        ]
    if evaluation.ungrouped_columns:
        names = ", ".join(map(to_printable, evaluation.ungrouped_columns))
        sentences.append(f"Columns with more than {MOST_VALUES} different texts have no subgroups: {names}.")
    return " ".join(sentences)


def describe_sharing(split: str, names: ImageNames, others: Mapping[str, ImageNames]) -> str:
    """How many images of a split show patients who are in other splits, too; empty where that is unknown."""
    if not others or any(part.patients is None for part in (names, *others.values())):
        return ""
    own, among = SPLIT_NAMES[split], " and ".join(SPLIT_NAMES[other] for other in others)
    shared, n = count_shared(names, list(others.values())), len(names.patients or ())
    if shared is None:
        return (
            f"Patients of the {own} are numbered separately: whether the {among} show them, too, is unknown."
        )
    if not shared.images:
        return (
            f"Of the {shared.known:,} {own} whose patient is known, none shows a patient who is known among "
            f"the {among}."
        )
    least = "At least " if have_several_numberings([names, *others.values()]) else ""
    return (
        f"{least}{shared.images:,} of {n:,} {own} ({format_percent(shared.images / n)}) show a patient whom "
        f"the {among} show, too: metrics on them are optimistically biased."
    )


def describe_robustness(robustness: Robustness) -> str:
    """What the columns of `list_robustness` mean, and the metric of MedMNIST-C."""
    benchmark = robustness.medmnist_c
    return (
        "Balanced error: 1 minus the mean of sensitivity and specificity at the operating point. Log odds: "
        "mean change. Changed: share of images with another prediction. OOD: share of images out of "
        "distribution. "
        f"Mean balanced error relative to AlexNet's at 224 px, over the {len(benchmark.alexnet) - 1} "
        f"corruptions of {benchmark.source}: {format_number(benchmark.mean_relative_error)}."
    )


def list_robustness(robustness: Robustness) -> list[list[str]]:
    """A row for the unperturbed images, then one for each kind of perturbation: `ROBUSTNESS_HEADER`."""
    plain, benchmark = robustness.unperturbed, robustness.medmnist_c
    return [
        _to_robustness_row("unperturbed", plain, benchmark.clean_relative_error),
        *(
            _to_robustness_row(name_kind(name), one.mean, one.relative_error)
            for name, one in robustness.kinds.items()
        ),
    ]


def name_figure(name: str) -> str:
    """A metric in words."""
    return LABELS.get(name, name.replace("_", " "))


def name_subgroup(subgroup: Subgroup) -> str:
    """A subgroup of a column in words."""
    return "missing" if subgroup.value is None else subgroup.value


def name_kind(name: str) -> str:
    """A kind of perturbation in words."""
    words = name.replace("_corr_", " ").replace("_", " ")
    return words.replace("jpeg", "JPEG").replace("gaussian", "Gaussian")


def format_differences(
    differences: Mapping[str, Difference],
    *,
    heading: str,
    changed: Mapping[str, tuple[str, str]],
    cautions: Sequence[str] = (),
) -> str:
    """Every paired difference with its interval and p-value, and its cause as far as settings show it.

    `changed` has the settings in which the runs differ, by dotted key: the first run's value and the
    second's. `cautions` describe limits of the intervals; "" for none.
    """
    rows = [
        [name_figure(name), *_to_cells(one, "+"), format_number(one.p_value, digits=DIGITS), one.method]
        for name, one in differences.items()
    ]
    table = format_table(rows, header=("", "difference", INTERVAL, "p", "method"), align="lrlrl")
    settings = format_table(
        [[key, first or DASH, second or DASH] for key, (first, second) in changed.items()],
        header=("setting", "first", "second"),
    )
    return _join(to_printable(heading), table, *cautions, settings, explain_difference(changed))


def explain_difference(changed: Mapping[str, tuple[str, str]]) -> str:
    """How much of a difference is seed variance, as far as the settings of two runs show it."""
    if not changed:
        return (
            "No setting differs: a difference comes from the images, the machine or the versions, see "
            "environment.json of each run."
        )
    if set(changed) == {"seed"}:
        return "Only the seed differs: this is seed variance."
    return (
        "Intervals and p hold for other images, not for other seeds: two seeds of the same settings can "
        "differ as much.\nTo find out, train each with several seeds, or with training.members above 1, "
        "whose spread eval shows."
    )


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _to_cells(figure: Interval | Difference, sign: str = "") -> tuple[str, str]:
    bounds = format_bounds(figure.low, figure.high, digits=DIGITS, sign=sign)
    return format_number(figure.value, digits=DIGITS, sign=sign), bounds


def _format_counts(evaluation: Evaluation) -> str:
    at_half = evaluation.at_half
    lines = [_describe_counts(evaluation)]
    if at_half.threshold != evaluation.threshold:
        figures = (
            f"{name} {format_number(at_half.figures[name].value, digits=DIGITS)}" for name in MAIN_FIGURES[1:]
        )
        lines += [_describe_counts(at_half), f"There: {', '.join(figures)}."]
    return "\n".join(lines)


def _describe_counts(at_threshold: ThresholdMetrics) -> str:
    counts = at_threshold.counts
    return (
        f"At threshold {at_threshold.threshold:.4g}: {counts.tp} of "
        f"{to_amount(counts.pneumonia, 'pneumonia image')} predicted pneumonia, {counts.tn} of "
        f"{to_amount(counts.normal, 'normal image')} predicted normal "
        f"(tn {counts.tn}, fp {counts.fp}, fn {counts.fn}, tp {counts.tp})."
    )


def _format_part(evaluation: Evaluation, part: ThresholdMetrics | None, name: str) -> str:
    """Figures of all images, and those of some; empty without these."""
    if part is None:
        return ""
    rows = [
        [name_figure(figure), *_to_cells(evaluation.figures[figure]), *_to_cells(part.figures[figure])]
        for figure in MAIN_FIGURES
    ]
    header = ("", "all images", INTERVAL, f"the {part.n:,} {name}", INTERVAL)
    return format_table(rows, header=header, align="lrlrl")


def _format_subgroups(evaluation: Evaluation) -> str:
    rows = [
        [
            f"{one.column}: {name_subgroup(one)}",
            f"{one.n:,}",
            format_number(one.figures["prevalence"].value),
            *(format_with_bounds(one.figures[name]) for name in SUBGROUP_FIGURES),
        ]
        for one in evaluation.subgroups
    ]
    header = (
        "subgroup",
        "n",
        "prevalence",
        *(f"{name_figure(name)} ({INTERVAL})" for name in SUBGROUP_FIGURES),
    )
    return format_table(rows, header=header, align="lrrlll")


def _format_perturbed(evaluation: Evaluation) -> str:
    """What perturbation of the same images makes of the metrics: all kinds at once, and each by itself."""
    perturbed = evaluation.perturbed
    if perturbed is None:
        return ""
    rows = [
        [
            name_figure(name),
            *(format_number(one.figures[name].value, digits=DIGITS) for one in (evaluation, perturbed)),
            *_to_cells(perturbed.changes[name], "+"),
        ]
        for name in PERTURBED_FIGURES
    ]
    header = ("the same images", "as they are", "perturbed", "change", f"{INTERVAL}, paired")
    return _join(
        format_table(rows, header=header, align="lrrrl"),
        format_table(list_robustness(perturbed.robustness), header=ROBUSTNESS_HEADER, align="lrrrrrrrrr"),
        describe_robustness(perturbed.robustness),
    )


def _to_robustness_row(name: str, figures: PerturbedFigures, relative_error: float | None) -> list[str]:
    shares = (figures.auc, figures.accuracy, figures.sensitivity, figures.specificity, figures.balanced_error)
    return [
        name,
        *map(format_number, shares),
        format_number(figures.mean_shift, digits=2, sign="+"),
        *map(format_percent, (figures.changed, figures.out_of_distribution)),
        format_number(relative_error, digits=2),
    ]


def _format_members(evaluation: Evaluation) -> str:
    if not evaluation.members:
        return ""
    rows = []
    for name in MAIN_FIGURES:
        one = evaluation.members[name]
        numbers = (format_number(value, digits=DIGITS) for value in (one.mean, one.deviation))
        rows.append(
            [name_figure(name), *numbers, format_bounds(min(one.values), max(one.values), digits=DIGITS)]
        )
    count = len(evaluation.members["auc"].values)
    header = (f"each of {count} members", "mean", "deviation", "lowest to highest")
    return format_table(rows, header=header, align="lrrl")
