"""An evaluation and a comparison as text, for a terminal."""

import math
from collections.abc import Iterable, Mapping, Sequence

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.data.overlap import count_shared, have_several_numberings
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import LEVEL, SHORT_COVERAGE
from pneumo_keras.evaluation.metrics import ConfusionCounts
from pneumo_keras.evaluation.patients import PatientCounts
from pneumo_keras.evaluation.report_card import (
    FAR,
    Evaluation,
    MemberFigure,
    OutOfDistribution,
    ThresholdMetrics,
)
from pneumo_keras.evaluation.robustness import PerturbedFigures, Robustness
from pneumo_keras.reporting.formats import (
    DASH,
    format_bounds,
    format_number,
    format_percent,
    format_share,
    format_table,
)
from pneumo_keras.storage.printable import to_amount, to_printable

MAIN_FIGURES = ("auc", "accuracy", "sensitivity", "specificity")
PERTURBED_FIGURES = (*MAIN_FIGURES, "log_loss", "brier_loss", "calibration_error")
LABELS = {
    "auc": "AUC",
    "precision_pneumonia": "precision pneumonia (PPV)",
    "precision_normal": "precision normal (NPV)",
}
DIGITS = 4
PAIRED_BY_PATH = (
    "The files of one folder were prepared otherwise for the two runs: images are paired by their paths."
)
ROBUSTNESS_HEADER = (
    *("kind, mean of five severities", "AUC", "accuracy", "sensitivity", "specificity", "balanced error"),
    *("log odds", "changed", "OOD", "of AlexNet's"),
)


def format_evaluation(evaluation: Evaluation, *, heading: str) -> str:
    """Every figure of a split with its interval, the confusion counts, and the spread over members."""
    at_threshold = evaluation.at_threshold
    rows = [
        [name_figure(name), *_to_cells(figure.value, figure.low, figure.high), figure.method]
        for name, figure in at_threshold.figures.items()
    ]
    table = format_table(
        rows, header=("", "value", f"{format_share(LEVEL)} interval", "method"), align="lrll"
    )
    stated = at_threshold.stated_prevalence
    return _join(
        to_printable(heading),
        "" if stated is None else describe_correction(stated),
        table,
        describe_one_class(at_threshold),
        describe_patients(at_threshold.patients, at_threshold.n),
        describe_short_intervals(at_threshold.counts, at_threshold.short_intervals),
        _format_counts(evaluation),
        _format_out_of_distribution(evaluation),
        _format_new_patients(evaluation),
        _format_perturbed(evaluation),
        _format_members(evaluation.members),
    )


def describe_correction(prevalence: float) -> str:
    """What a stated prevalence changes and what it leaves alone."""
    return (
        f"Corrected to a prevalence of {format_share(prevalence)}: scores, threshold, PPV, NPV and the other "
        "figures that depend on how common pneumonia is speak of such a population. Counts are of the images "
        "as they are, and no prediction changes."
    )


def describe_short_intervals(counts: ConfusionCounts, names: Sequence[str]) -> str:
    """Which intervals are known to be too short for so few images; empty if none is."""
    if not names:
        return ""
    return (
        f"Few images ({counts.tn + counts.fp} normal, {counts.fn + counts.tp} pneumonia): the "
        f"{format_share(LEVEL)} intervals of {', '.join(map(name_figure, names))} held the true "
        "figure in as few "
        f"as {SHORT_COVERAGE} of simulated cases."
    )


def describe_one_class(at_threshold: ThresholdMetrics) -> str:
    """What cannot be said of images of one class; empty where there are both."""
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
    """What to check where scores rank images backwards; empty where they do not."""
    if not at_threshold.ranks_backwards:
        return ""
    auc = at_threshold.figures["auc"]
    return (
        f"The AUC is {format_number(auc.value, digits=DIGITS)} ({format_share(LEVEL)} interval "
        f"{format_bounds(auc.low, auc.high, digits=DIGITS)}), clearly below 0.5: scores rank the images "
        "backwards. The labels may be swapped: check that label 1, in a folder the class that data.positive "
        "names, is pneumonia."
    )


def describe_out_of_distribution(outside: OutOfDistribution, n: int) -> str:
    """How many of `n` images are out of distribution."""
    if not outside.n:
        return f"None of the {n:,} images is out of distribution."
    verb = "is" if outside.n == 1 else "are"
    return (
        f"{outside.n:,} of {n:,} images ({format_percent(outside.n / n)}) {verb} out of distribution, "
        f"{outside.far_outside:,} of them far (more than {FAR:g} times the limit), where predictions are of "
        "no use."
    )


def describe_patients(patients: PatientCounts | None, n: int) -> str:
    """What the intervals of `n` images resample; empty where no patient is known."""
    if patients is None:
        return ""
    return (
        f"Images of one patient resemble each other: intervals resample the {patients.all:,} patients of the "
        f"{n:,} images ({patients.normal:,} with normal, {patients.pneumonia:,} with pneumonia; an image "
        "whose patient is unknown counts as one)."
    )


def describe_new_patients(evaluation: Evaluation) -> str:
    """How many images show patients that are new to the run; empty where nobody knows."""
    new = evaluation.new_patients
    if new is None:
        return ""
    return (
        f"{new.n:,} of {evaluation.at_threshold.n:,} images are of known patients of whom the run was "
        "trained "
        "on no image that is known: their figures speak of new patients."
    )


def describe_sharing(split: str, names: ImageNames, others: Mapping[str, ImageNames]) -> str:
    """How many images of a split show patients of whom other splits hold images; empty where nobody knows."""
    if not others or any(part.patients is None for part in (names, *others.values())):
        return ""
    own, among = SPLIT_NAMES[split], " and ".join(SPLIT_NAMES[other] for other in others)
    shared, n = count_shared(names, list(others.values())), len(names.patients or ())
    if shared is None:
        return f"Patients of the {own} are numbered anew: whether the {among} show them, too, is not known."
    if not shared.images:
        return (
            f"Of the {shared.known:,} {own} whose patient is known, none shows a patient who is known among "
            f"the {among}."
        )
    least = "At least " if have_several_numberings([names, *others.values()]) else ""
    return (
        f"{least}{shared.images:,} of {n:,} {own} ({format_percent(shared.images / n)}) show a patient whom "
        f"the {among} show, too: figures on them are flattered by that."
    )


def describe_robustness(robustness: Robustness) -> str:
    """What the columns of `list_robustness` mean, and the figure of MedMNIST-C."""
    benchmark = robustness.medmnist_c
    return (
        "Balanced error: 1 less the mean of sensitivity and specificity at the operating point. Log odds: "
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
    """A figure as people write it."""
    return LABELS.get(name, name.replace("_", " "))


def name_kind(name: str) -> str:
    """A kind of perturbation as people write it."""
    words = name.replace("_corr_", " ").replace("_", " ")
    return words.replace("jpeg", "JPEG").replace("gaussian", "Gaussian")


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
            *_to_cells(one.value, one.low, one.high, sign="+"),
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
    return _join(to_printable(heading), table, *cautions, settings, explain_difference(changed))


def explain_difference(changed: Mapping[str, tuple[str, str]]) -> str:
    """How much of a difference is seed variance, as far as the settings of two runs can tell."""
    if not changed:
        return (
            "No setting differs: a difference comes from the machine or the versions, see environment.json "
            "of each run."
        )
    if set(changed) == {"seed"}:
        return "Only the seed differs: this is seed variance."
    return (
        "Intervals and p speak of other images, not of other seeds: two seeds of the same settings "
        "can differ "
        "as much.\nTo find out, train each with several seeds, or with training.members above 1, whose "
        "spread eval shows."
    )


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _to_cells(value: float, low: float, high: float, sign: str = "") -> tuple[str, str]:
    return format_number(value, digits=DIGITS, sign=sign), format_bounds(low, high, digits=DIGITS, sign=sign)


def _format_counts(evaluation: Evaluation) -> str:
    at_half = evaluation.at_half
    lines = [_describe_counts(evaluation.at_threshold)]
    if at_half.threshold != evaluation.at_threshold.threshold:
        figures = (
            f"{name} {format_number(at_half.figures[name].value, digits=DIGITS)}" for name in MAIN_FIGURES[1:]
        )
        lines += [_describe_counts(at_half), f"There: {', '.join(figures)}."]
    return "\n".join(lines)


def _describe_counts(at_threshold: ThresholdMetrics) -> str:
    counts = at_threshold.counts
    sick, normal = counts.tp + counts.fn, counts.tn + counts.fp
    return (
        f"At threshold {at_threshold.threshold:.4g}: {counts.tp} of {to_amount(sick, 'pneumonia image')} "
        f"predicted pneumonia, {counts.tn} of {to_amount(normal, 'normal image')} predicted normal "
        f"(tn {counts.tn}, fp {counts.fp}, fn {counts.fn}, tp {counts.tp})."
    )


def _format_out_of_distribution(evaluation: Evaluation) -> str:
    outside = evaluation.out_of_distribution
    if outside is None:
        return ""
    text = describe_out_of_distribution(outside, evaluation.at_threshold.n)
    return _join(text, (outside.inside and _format_part(evaluation, outside.inside, "others")) or "")


def _format_new_patients(evaluation: Evaluation) -> str:
    new = evaluation.new_patients
    table = "" if new is None else _format_part(evaluation, new, "of new patients")
    return _join(describe_new_patients(evaluation), table)


def _format_part(evaluation: Evaluation, part: ThresholdMetrics, name: str) -> str:
    """Figures of all images, and those of some."""
    all_images = evaluation.at_threshold
    rows = [[name_figure(figure), *_to_figure_cells(figure, (all_images, part))] for figure in MAIN_FIGURES]
    interval = f"{format_share(LEVEL)} interval"
    header = ("", "all images", interval, f"the {part.n:,} {name}", interval)
    return format_table(rows, header=header, align="lrlrl")


def _to_figure_cells(name: str, evaluations: Iterable[ThresholdMetrics]) -> list[str]:
    figures = [one.figures[name] for one in evaluations]
    return [cell for one in figures for cell in _to_cells(one.value, one.low, one.high)]


def _format_perturbed(evaluation: Evaluation) -> str:
    """What perturbation of the same images makes of the figures: all kinds at once, and each by itself."""
    if evaluation.perturbed is None:
        return ""
    plain, perturbed = evaluation.at_threshold, evaluation.perturbed.evaluation.at_threshold
    changes, robustness = evaluation.perturbed.changes, evaluation.perturbed.robustness
    rows = [
        [
            name_figure(name),
            *(format_number(one.figures[name].value, digits=DIGITS) for one in (plain, perturbed)),
            *_to_cells(changes[name].value, changes[name].low, changes[name].high, sign="+"),
        ]
        for name in PERTURBED_FIGURES
    ]
    header = ("the same images", "as they are", "perturbed", "change", "95 % interval, paired")
    by_kind = format_table(list_robustness(robustness), header=ROBUSTNESS_HEADER, align="lrrrrrrrrr")
    return _join(format_table(rows, header=header, align="lrrrl"), by_kind, describe_robustness(robustness))


def _to_robustness_row(name: str, figures: PerturbedFigures, relative_error: float | None) -> list[str]:
    shares = (figures.auc, figures.accuracy, figures.sensitivity, figures.specificity, figures.balanced_error)
    return [
        name,
        *map(format_number, shares),
        format_number(figures.mean_shift, digits=2, sign="+"),
        *(format_percent(share) for share in (figures.changed, figures.out_of_distribution)),
        DASH if relative_error is None else format_number(relative_error, digits=2),
    ]


def _format_members(members: Mapping[str, MemberFigure]) -> str:
    if not members:
        return ""
    rows = [
        [
            name_figure(name),
            format_number(members[name].mean, digits=DIGITS),
            format_number(members[name].deviation, digits=DIGITS),
            format_bounds(min(members[name].values), max(members[name].values), digits=DIGITS),
        ]
        for name in MAIN_FIGURES
    ]
    header = (f"each of {len(members['auc'].values)} members", "mean", "deviation", "lowest to highest")
    return format_table(rows, header=header, align="lrrl")
