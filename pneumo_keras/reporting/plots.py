"""Plots of a run: PNG files, and SVG inside the report."""

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_curve

from pneumo_keras.arrays import CLASS_NAMES, Labels, Scores
from pneumo_keras.evaluation.calibration import ReliabilityBin
from pneumo_keras.evaluation.intervals import LEVEL, to_auc_interval
from pneumo_keras.evaluation.metrics import (
    BINS,
    count_confusions,
    has_both_classes,
    to_prevalence,
    to_sensitivity,
    to_specificity,
)
from pneumo_keras.evaluation.patients import Patients
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import ThresholdMetrics
from pneumo_keras.evaluation.robustness import PerturbationKind, PerturbedFigures, Robustness
from pneumo_keras.evaluation.threshold import to_threshold_curves
from pneumo_keras.reporting.evaluation_text import name_kind
from pneumo_keras.reporting.formats import format_percent, format_with_bounds
from pneumo_keras.storage.printable import to_amount, to_printable

TRAINING, VALIDATION, ACCENT, GREY = "#3b6ea5", "#c8553d", "#2a7f62", "#8a8a8a"
DOTS_PER_INCH = 150
COLUMNS = 4  # of panels, one for each kind of perturbation
SCORE = "score (predicted probability of pneumonia)"
NAME = 60  # characters of a run's path shown in a legend: the last ones distinguish runs


def build_figure(width: float, height: float, title: str | None = None, *, fontsize: int = 13) -> Figure:
    """An empty plot of that many pixels as PNG; the title is printable."""
    figure = Figure(figsize=(width / DOTS_PER_INCH, height / DOTS_PER_INCH), layout="constrained")
    FigureCanvasAgg(figure)
    if title is not None:
        figure.suptitle(title, fontsize=fontsize, parse_math=False)
    return figure


def draw_summary(
    history: Sequence[dict[str, float]],
    labels: Labels,
    scores: Scores,
    at_threshold: ThresholdMetrics,
    *,
    title: str,
) -> Figure:
    """The reference protocol's four panels: loss, accuracy, confusion matrix, ROC. 1,600 px wide.

    `history` has a row an epoch, as in `history.csv`; the rest is of the split.
    """
    plot = build_figure(1600, 1280, to_printable(title))
    panels = _list_panels(history, labels, scores, at_threshold)
    for axes, draw in zip(plot.subplots(2, 2).ravel(), panels.values(), strict=True):
        draw(axes)
    return plot


def draw_panels(
    history: Sequence[dict[str, float]], labels: Labels, scores: Scores, at_threshold: ThresholdMetrics
) -> dict[str, Figure]:
    """The panels of a summary by name, each a plot by itself: a phone shows them one above the other."""
    plots = {}
    for name, draw in _list_panels(history, labels, scores, at_threshold).items():
        plots[name] = build_figure(*PANEL)
        draw(plots[name].subplots())
    return plots


def _list_panels(
    history: Sequence[dict[str, float]], labels: Labels, scores: Scores, at_threshold: ThresholdMetrics
) -> dict[str, Callable[[Axes], None]]:
    return {
        "loss": partial(_draw_curves, history, "loss", "Loss (training: class-weighted)"),
        "accuracy": partial(_draw_curves, history, "accuracy", "Accuracy"),
        "confusion": partial(_draw_confusion, at_threshold),
        "roc": partial(_draw_roc, labels, scores, at_threshold),
    }


def draw_rocs(
    labels: Labels,
    runs: Mapping[str, tuple[Scores, float]],
    *,
    title: str,
    patients: Patients | None = None,
) -> Figure:
    """ROC curves of several runs on the same images, with their operating points. 1,200 px wide.

    `runs` has the scores and the threshold of each by its name.
    """
    plot = build_figure(1200, 1200)
    axes = plot.subplots()
    _prepare_roc(axes, labels, title=f"ROC curves, {title}")
    if not has_both_classes(labels):
        return plot
    names, lines = {}, []
    for number, (name, (scores, threshold)) in enumerate(runs.items()):
        auc = to_auc_interval(labels, scores, patients)
        shown = to_printable(name) if len(name) <= NAME else f"...{to_printable(name[-NAME:])}"
        names[f"run {number}"] = f"{shown}: AUC {format_with_bounds(auc, level=LEVEL)}"
        false_positive, true_positive, _ = roc_curve(labels, scores)
        (line,) = axes.plot(false_positive, true_positive, linewidth=1.6, label=f"run {number}")
        lines.append(line)
        counts = count_confusions(labels, scores, threshold)
        axes.plot(1 - to_specificity(counts), to_sensitivity(counts), "o", color=line.get_color())
    legend = axes.legend(
        handles=lines, loc="lower right", fontsize=9, title="points: operating points", title_fontsize=9
    )
    for text in legend.get_texts():  # as labels, names that begin with an underscore would be left out
        text.set(text=names[text.get_text()], parse_math=False)
    return plot


def draw_robustness(robustness: Robustness, *, title: str) -> Figure:
    """AUC and balanced error over severities 0 to 5, a panel for each kind. 1,600 px wide."""
    rows = -(-len(robustness.kinds) // COLUMNS)
    plot = build_figure(1600, 130 + 330 * rows, to_printable(title))
    panels = plot.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    for axes, (name, kind) in zip(panels, robustness.kinds.items(), strict=False):
        _draw_kind(axes, name, robustness.unperturbed, kind, robustness.medmnist_c.alexnet.get(name))
    for number, axes in enumerate(panels):
        axes.set_visible(number < len(robustness.kinds))
        if number >= len(robustness.kinds) - COLUMNS:  # with none below
            axes.set_xlabel("severity (0: unperturbed)")
    handles, labels = panels[0].get_legend_handles_labels()
    plot.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=10)
    return plot


def fix_layout(plot: Figure) -> None:
    """Arranges what a plot has once; saving would do so twice, which takes as long as to draw it."""
    engine: Any = plot.get_layout_engine()
    engine.execute(plot)
    plot.set_layout_engine("none")


def save_plot(plot: Figure, path: Path) -> None:
    """Writes a plot as PNG, the same bytes for the same plot.

    A name in signs that its font lacks gets boxes, and no warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        fix_layout(plot)
        plot.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})


def _draw_curves(history: Sequence[dict[str, float]], name: str, title: str, axes: Axes) -> None:
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
        axes.axvspan(tuned[0] - 0.5, tuned[-1] + 0.5, color=GREY, alpha=0.12, label="fine-tuning")
    axes.set(title=title, xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_confusion(at_threshold: ThresholdMetrics, axes: Axes) -> None:
    counts = at_threshold.counts
    table = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if share > 0.5 else "black"
        text = f"{table[row, column]:,}\n{format_percent(share)}"
        axes.text(column, row, text, ha="center", va="center", fontsize=15, color=color)
    axes.set(
        title=f"Confusion matrix at threshold {at_threshold.threshold:.3g}",
        xlabel="predicted class",
        ylabel="true class",
        xticks=[0, 1],
        yticks=[0, 1],
        xticklabels=CLASS_NAMES,
    )
    axes.set_yticklabels(CLASS_NAMES, rotation=90, va="center")


def _prepare_roc(axes: Axes, labels: Labels, *, title: str) -> None:
    axes.set(title=title, aspect="equal")
    axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    axes.grid(alpha=0.3)
    if not has_both_classes(labels):
        axes.text(0.5, 0.4, "undefined: images of one class", ha="center")


def _draw_roc(labels: Labels, scores: Scores, at_threshold: ThresholdMetrics, axes: Axes) -> None:
    _prepare_roc(axes, labels, title="ROC curve")
    if not has_both_classes(labels):
        return
    false_positive, true_positive, _ = roc_curve(labels, scores)
    auc = format_with_bounds(at_threshold.figures["auc"], level=LEVEL)
    axes.plot(false_positive, true_positive, color=ACCENT, linewidth=2, label=f"AUC {auc}")
    sensitivity, specificity = (at_threshold.figures[name].value for name in ("sensitivity", "specificity"))
    _mark_threshold(axes, 1 - specificity, sensitivity, at_threshold.threshold)
    axes.legend(loc="lower right")


def _mark_threshold(axes: Axes, x: float, y: float, threshold: float) -> None:
    axes.plot(x, y, "o", color=VALIDATION, label=f"threshold {threshold:.3g}")


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


GreyImage = UInt8[np.ndarray, "height width *colours"]

PANEL = (780, 585)  # pixels of a panel of the summary
NORMAL, PNEUMONIA = TRAINING, VALIDATION
SALT = "pneumo-keras"  # of the ids inside an SVG, which are random without one


def encode_plot(plot: Figure) -> str:
    """A plot as an SVG data URI: the same bytes for the same plot."""
    svg = io.BytesIO()
    fix_layout(plot)
    with matplotlib.rc_context({"svg.hashsalt": SALT, "svg.fonttype": "path"}):
        plot.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return _encode(svg.getvalue(), "image/svg+xml")


def encode_image(image: GreyImage) -> str:
    """An image as a PNG data URI, pixel by pixel."""
    return _encode(to_png(image), "image/png")


def to_png(image: GreyImage) -> bytes:
    """An image as a PNG file."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, format="PNG")
    return png.getvalue()


def _encode(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def draw_precision_recall(labels: Labels, scores: Scores, at_threshold: ThresholdMetrics) -> Figure:
    """Precision against sensitivity, with the operating point and what chance reaches."""
    plot, (axes,) = build_plot()
    axes.set(title="Precision and recall of pneumonia")
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (PPV)")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if not has_both_classes(labels):
        axes.text(0.5, 0.5, "undefined: the images are of one class", ha="center", va="center")
        return plot
    precision, recall, _ = precision_recall_curve(labels, scores)
    own, prevalence = to_prevalence(labels), at_threshold.stated_prevalence
    if prevalence is not None:
        precision = PrevalenceShift(own, prevalence).correct_scores(precision)
    area = format_with_bounds(at_threshold.figures["average_precision"], level=LEVEL)
    axes.axhline(own if prevalence is None else prevalence, color=GREY, linestyle=":", label="chance")
    style = {"color": ACCENT, "linewidth": 2, "drawstyle": "steps-post"}
    axes.plot(recall, precision, label=f"average precision {area}", **style)
    sensitivity, reached = (
        at_threshold.figures[name].value for name in ("sensitivity", "precision_pneumonia")
    )
    _mark_threshold(axes, sensitivity, reached, at_threshold.threshold)
    axes.legend(loc="lower left")
    return plot


def draw_reliability(bins: list[ReliabilityBin]) -> Figure:
    """Prevalence against mean score, with Wilson's intervals, above the counts of images."""
    plot, (axes, counts) = build_plot(height_ratios=(3, 1))
    promised = np.array([bin_.mean_score for bin_ in bins])
    shares = np.array([bin_.prevalence for bin_ in bins])
    below = shares - [bin_.prevalence_low for bin_ in bins]
    above = [bin_.prevalence_high for bin_ in bins] - shares
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="calibrated")
    axes.errorbar(
        promised,
        shares,
        yerr=np.maximum([below, above], 0),  # rounding may put a bound slightly beyond the prevalence
        fmt="o",
        color=ACCENT,
        ecolor=ACCENT,
        capsize=2,
        label="images of a bin, 95 % interval",
    )
    axes.set(title="Reliability diagram", ylabel="observed prevalence", ylim=(-0.03, 1.03))
    axes.legend(loc="best")
    middles = [(bin_.low + bin_.high) / 2 for bin_ in bins]
    bars = counts.bar(middles, [bin_.n for bin_ in bins], width=0.9 / BINS, color=GREY)
    counts.bar_label(bars, fontsize=8)
    counts.margins(y=0.35)
    counts.set(xlabel=SCORE, ylabel="images", xlim=(-0.03, 1.03))
    return plot


def draw_score_distributions(labels: Labels, scores: Scores, threshold: float) -> Figure:
    """Counts of scores, a row for each class, with the threshold."""
    plot, rows = build_plot(height_ratios=(1, 1))
    edges = np.linspace(0, 1, 41).tolist()
    for axes, label, color in zip(rows, (1, 0), (PNEUMONIA, NORMAL), strict=True):
        images = scores[labels == label]
        axes.hist(
            images, bins=edges, color=color, label=f"{CLASS_NAMES[label]}, {to_amount(len(images), 'image')}"
        )
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
        axes.set(ylabel="number of images", xlim=(-0.02, 1.02))
        axes.legend(loc="upper center", framealpha=0.9)
    rows[0].set(title=f"Scores by class; predicted pneumonia right of {threshold:.3g}")
    rows[1].set(xlabel=SCORE)
    return plot


def draw_threshold_curve(
    labels: Labels, scores: Scores, threshold: float, prevalence: float | None = None
) -> Figure:
    """Sensitivity, specificity and accuracy, corrected to a prevalence if any, at every threshold."""
    plot, (axes,) = build_plot()
    thresholds, sensitivity, specificity, accuracy = to_threshold_curves(labels, scores)
    if prevalence is not None:
        accuracy = prevalence * sensitivity + (1 - prevalence) * specificity
    curves = {"sensitivity": sensitivity, "specificity": specificity, "accuracy": accuracy}
    for (name, curve), color in zip(curves.items(), (PNEUMONIA, NORMAL, ACCENT), strict=True):
        axes.plot(thresholds, curve, color=color, drawstyle="steps-post", label=name)
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3g}")
    axes.set(title="Metrics by threshold", xlabel="threshold", ylabel="proportion of images")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="lower center")
    return plot


def build_plot(height_ratios: tuple[int, ...] = (1,)) -> tuple[Figure, list[Axes]]:
    """A plot of the size of a panel, its axes one above the other."""
    plot = build_figure(*PANEL)
    axes = plot.subplots(len(height_ratios), 1, sharex=True, squeeze=False, height_ratios=height_ratios)
    for one in axes[:, 0]:
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
    return plot, list(axes[:, 0])
