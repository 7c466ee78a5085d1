"""Pictures of a run, as PNG files."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from pneumo_keras.arrays import CLASS_NAMES, Labels, Scores
from pneumo_keras.evaluation.intervals import LEVEL, to_auc_interval
from pneumo_keras.evaluation.metrics import (
    count_confusions,
    has_both_classes,
    to_sensitivity,
    to_specificity,
)
from pneumo_keras.evaluation.patients import Patients
from pneumo_keras.evaluation.report_card import ThresholdMetrics
from pneumo_keras.evaluation.robustness import PerturbationKind, PerturbedFigures, Robustness
from pneumo_keras.reporting.numbers import format_with_bounds
from pneumo_keras.reporting.robustness import name_kind
from pneumo_keras.storage.printable import to_printable

TRAINING, VALIDATION, ACCENT, GREY = "#3b6ea5", "#c8553d", "#2a7f62", "#8a8a8a"
DOTS_PER_INCH = 150
COLUMNS = 4  # of panels, one for each kind of perturbation
NAME = 60  # characters of a run's path that a legend has room for: the last ones tell runs apart


def draw_summary(
    history: Sequence[dict[str, float]],
    labels: Labels,
    scores: Scores,
    at_threshold: ThresholdMetrics,
    *,
    title: str,
) -> Figure:
    """The reference protocol's four panels: loss, accuracy, confusion matrix, ROC. 1,600 px wide.

    Args:
        history: A row an epoch, as in `history.csv`.
        labels: Of the split.
        scores: Of the split.
        at_threshold: Figures of the split at the run's threshold.
        title: Names run, split and data.
    """
    plot = Figure(figsize=(1600 / DOTS_PER_INCH, 1280 / DOTS_PER_INCH), layout="constrained")
    FigureCanvasAgg(plot)
    plot.suptitle(to_printable(title), fontsize=13, parse_math=False)
    (loss, accuracy), (confusion, roc) = plot.subplots(2, 2)
    _draw_curves(loss, history, "loss", "Loss (training: class-weighted)")
    _draw_curves(accuracy, history, "accuracy", "Accuracy")
    _draw_confusion(confusion, at_threshold)
    _draw_roc(roc, labels, scores, at_threshold)
    return plot


def draw_rocs(
    labels: Labels,
    runs: Mapping[str, tuple[Scores, float]],
    *,
    title: str,
    patients: Patients | None = None,
) -> Figure:
    """ROC curves of several runs on the same images, with their operating points. 1,200 px wide.

    Args:
        labels: Of the images.
        runs: By name: scores of the images, and the threshold of the run.
        title: Names the images.
        patients: Of the images, where known.
    """
    plot = Figure(figsize=(1200 / DOTS_PER_INCH, 1200 / DOTS_PER_INCH), layout="constrained")
    FigureCanvasAgg(plot)
    axes = plot.subplots()
    axes.set(title=f"ROC, {title}", xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.grid(alpha=0.3)
    names = {}
    if not has_both_classes(labels):
        axes.text(0.5, 0.4, "undefined: images of one class", ha="center")
        return plot
    for number, (name, (scores, threshold)) in enumerate(runs.items()):
        auc = to_auc_interval(labels, scores, patients)
        shown = to_printable(name) if len(name) <= NAME else f"...{to_printable(name[-NAME:])}"
        names[f"run {number}"] = f"{shown}: AUC {format_with_bounds(auc, level=LEVEL)}"
        false_positive, true_positive, _ = roc_curve(labels, scores)
        (line,) = axes.plot(false_positive, true_positive, linewidth=1.6, label=f"run {number}")
        counts = count_confusions(labels, scores, threshold)
        axes.plot(1 - to_specificity(counts), to_sensitivity(counts), "o", color=line.get_color())
    legend = axes.legend(loc="lower right", fontsize=9, title="points: operating points", title_fontsize=9)
    for text in legend.get_texts():  # as labels, names that begin with an underscore would be left out
        text.set(text=names[text.get_text()], parse_math=False)
    return plot


def draw_robustness(robustness: Robustness, *, title: str) -> Figure:
    """AUC and balanced error over severities 0 to 5, a panel for each kind. 1,600 px wide.

    Args:
        robustness: The figures.
        title: Names run, split and data.
    """
    rows = -(-len(robustness.kinds) // COLUMNS)
    size = (1600 / DOTS_PER_INCH, (130 + 330 * rows) / DOTS_PER_INCH)
    plot = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(plot)
    plot.suptitle(to_printable(title), fontsize=13, parse_math=False)
    panels = plot.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    for axes, (name, kind) in zip(panels, robustness.kinds.items(), strict=False):
        _draw_kind(axes, name, robustness.unperturbed, kind, robustness.medmnist_c.alexnet.get(name))
    for axes in panels[len(robustness.kinds) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    names = {"title": "by severity, from 0 (unperturbed) to 5", "fontsize": 10}
    plot.legend(handles, labels, loc="outside lower center", ncols=len(labels), **names)
    return plot


def save_plot(plot: Figure, path: Path) -> None:
    """Writes a plot as PNG, the same bytes for the same plot.

    A name in signs that its font lacks gets boxes, and no warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        plot.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})


def _draw_curves(axes: Axes, history: Sequence[dict[str, float]], name: str, title: str) -> None:
    epochs = [row["epoch"] for row in history]
    kept = [row["epoch"] for row in history if row["kept"]]
    marker = "o" if len(epochs) <= 30 else None
    axes.plot(epochs, [row[name] for row in history], marker=marker, color=TRAINING, label="training")
    axes.plot(
        epochs, [row[f"val_{name}"] for row in history], marker=marker, color=VALIDATION, label="validation"
    )
    among = f"{min(kept):.0f}" if min(kept) == max(kept) else f"{min(kept):.0f} to {max(kept):.0f}"
    for number, epoch in enumerate(kept):
        label = f"kept: epoch {among}" if number == 0 else None
        axes.axvline(epoch, color=GREY, linestyle=":", label=label, zorder=0)
    tuned = [row["epoch"] for row in history if row.get("phase") == 2]
    if tuned:
        axes.axvspan(tuned[0] - 0.5, tuned[-1] + 0.5, color=GREY, alpha=0.12, label="blocks learn, too")
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_confusion(axes: Axes, at_threshold: ThresholdMetrics) -> None:
    counts = at_threshold.counts
    table = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(2):
        for column in range(2):
            axes.text(
                column,
                row,
                f"{table[row, column]:,}\n{shares[row, column]:.1%}",
                ha="center",
                va="center",
                fontsize=15,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    axes.set(
        title=f"Confusion matrix at threshold {at_threshold.threshold:.3g} (shares of a row)",
        xlabel="called",
        ylabel="is",
        xticks=[0, 1],
        yticks=[0, 1],
        xticklabels=CLASS_NAMES,
    )
    axes.set_yticklabels(CLASS_NAMES, rotation=90, va="center")


def _draw_roc(axes: Axes, labels: Labels, scores: Scores, at_threshold: ThresholdMetrics) -> None:
    axes.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="guessing")
    axes.grid(alpha=0.3)
    if not has_both_classes(labels):
        axes.text(0.5, 0.4, "undefined: images of one class", ha="center")
        return
    false_positive, true_positive, _ = roc_curve(labels, scores)
    auc = format_with_bounds(at_threshold.figures["auc"], level=at_threshold.level)
    axes.plot(
        false_positive,
        true_positive,
        color=ACCENT,
        linewidth=2,
        label=f"AUC {auc}",
    )
    axes.plot(
        1 - at_threshold.figures["specificity"].value,
        at_threshold.figures["sensitivity"].value,
        "o",
        color=VALIDATION,
        label=f"threshold {at_threshold.threshold:.3g}",
    )
    axes.legend(loc="lower right")


def _draw_kind(
    axes: Axes, name: str, plain: PerturbedFigures, kind: PerturbationKind, alexnet: float | None
) -> None:
    states = [plain, *kind.severities]
    axes.plot([one.auc for one in states], "o-", color=ACCENT, markersize=3, label="AUC")
    errors = [one.balanced_error for one in states]
    axes.plot(errors, "s-", color=VALIDATION, markersize=3, label="balanced error")
    if alexnet is not None:
        label = "AlexNet's balanced error, mean of severities"
        axes.axhline(alexnet, color=GREY, linestyle=":", label=label)
    axes.set(ylim=(-0.02, 1.02), xticks=range(len(states)))
    axes.set_title(name_kind(name), fontsize=10)
    axes.grid(alpha=0.3)
