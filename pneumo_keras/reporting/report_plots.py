"""Pictures of a report, as data URIs that stand inside its page."""

import base64
import io

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from sklearn.metrics import precision_recall_curve

from pneumo_keras.arrays import CLASS_NAMES, Labels, Scores
from pneumo_keras.evaluation.metrics import has_both_classes, to_prevalence
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.reliability import BINS, ReliabilityBin
from pneumo_keras.evaluation.report_card import ThresholdMetrics
from pneumo_keras.evaluation.threshold import to_threshold_curves
from pneumo_keras.reporting.numbers import format_with_bounds
from pneumo_keras.reporting.plots import ACCENT, GREY, TRAINING, VALIDATION
from pneumo_keras.storage.printable import to_amount

GreyImage = UInt8[np.ndarray, "height width *colours"]

PANEL_INCHES = (5.2, 3.9)  # a panel of the summary
NORMAL, PNEUMONIA = TRAINING, VALIDATION
SALT = "pneumo-keras"  # of the ids inside an SVG, which are random without one


def encode_plot(plot: Figure, crop: Bbox | None = None) -> str:
    """A plot, or the part inside `crop` (inches), as an SVG data URI: the same bytes for the same plot."""
    svg = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": SALT, "svg.fonttype": "path"}):
        plot.savefig(svg, format="svg", bbox_inches=crop, metadata={"Date": None, "Creator": None})
    return encode_data(svg.getvalue(), "image/svg+xml")


def encode_panels(summary: Figure) -> list[str]:
    """The panels of a summary, each a picture of its own: a phone shows them one above the other.

    The summary has lost its title and all panels but the last afterwards.
    """
    summary.suptitle("")
    summary.draw_without_rendering()
    # A panel stays where it is while the others are hidden. "none" would draw each of them twice.
    summary.set_layout_engine(None)
    panels = list(summary.axes)
    uris = []
    for panel in panels:
        for other in panels:
            other.set_visible(other is panel)
        uris.append(encode_plot(summary, crop=_to_panel_box(summary)))
    return uris


def _to_panel_box(plot: Figure) -> Bbox:
    """What is visible, in inches, as wide as all panels: narrower ones would be enlarged, text and all."""
    seen = plot.get_tightbbox().padded(0.05)
    centre, half = (seen.x0 + seen.x1) / 2, max(seen.width, PANEL_INCHES[0]) / 2
    return Bbox.from_extents(centre - half, seen.y0, centre + half, seen.y1)


def encode_image(image: GreyImage) -> str:
    """An image as a PNG data URI, pixel by pixel."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, format="PNG")
    return encode_data(png.getvalue(), "image/png")


def encode_data(data: bytes, media_type: str) -> str:
    """The bytes as a URI that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def draw_precision_recall(
    labels: Labels, scores: Scores, at_threshold: ThresholdMetrics, prevalence: float | None = None
) -> Figure:
    """Precision against sensitivity, with the operating point and the prevalence, which guessing reaches.

    Args:
        labels: Of the images.
        scores: Of the images.
        at_threshold: At the operating point.
        prevalence: Share of pneumonia to which precision is corrected, as it is in the evaluation.
    """
    plot, (axes,) = build_plot()
    axes.set(title="Precision and recall of pneumonia", xlabel="recall (sensitivity)", ylabel="precision")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if not has_both_classes(labels):
        return write_undefined(plot, axes)
    precision, recall, _ = precision_recall_curve(labels, scores)
    own = to_prevalence(labels)
    if prevalence is not None:
        precision = PrevalenceShift(own, prevalence).correct_scores(precision)
    area = format_with_bounds(at_threshold.figures["average_precision"], level=at_threshold.level)
    axes.axhline(own if prevalence is None else prevalence, color=GREY, linestyle=":", label="guessing")
    axes.plot(
        recall,
        precision,
        color=ACCENT,
        linewidth=2,
        drawstyle="steps-post",
        label=f"average precision {area}",
    )
    axes.plot(
        at_threshold.figures["sensitivity"].value,
        at_threshold.figures["precision_pneumonia"].value,
        "o",
        color=VALIDATION,
        label=f"threshold {at_threshold.threshold:.3g}",
    )
    axes.legend(loc="lower left")
    return plot


def draw_reliability(bins: list[ReliabilityBin]) -> Figure:
    """Share of pneumonia against mean score, with Wilson's intervals, above the counts of images."""
    plot, (axes, counts) = build_plot(height_ratios=(3, 1))
    promised = np.array([bin_.mean_score for bin_ in bins])
    shares = np.array([bin_.share for bin_ in bins])
    below = shares - [bin_.share_low for bin_ in bins]
    above = [bin_.share_high for bin_ in bins] - shares
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="scores mean what they say")
    axes.errorbar(
        promised,
        shares,
        yerr=np.maximum([below, above], 0),  # rounding may put a bound a hair beyond the share
        fmt="o",
        color=ACCENT,
        ecolor=ACCENT,
        capsize=2,
        label="images of a bin, 95 % interval",
    )
    axes.set(title="Reliability", ylabel="share of pneumonia", ylim=(-0.03, 1.03))
    axes.legend(loc="best")
    middles = [(bin_.low + bin_.high) / 2 for bin_ in bins]
    bars = counts.bar(middles, [bin_.n for bin_ in bins], width=0.9 / BINS, color=GREY)
    counts.bar_label(bars, fontsize=8)
    counts.margins(y=0.35)
    counts.set(xlabel="score", ylabel="images", xlim=(-0.03, 1.03))
    return plot


def draw_score_distributions(labels: Labels, scores: Scores, threshold: float) -> Figure:
    """Counts of scores, a row for each class, with the threshold between the calls."""
    plot, rows = build_plot(height_ratios=(1, 1))
    edges = np.linspace(0, 1, 41).tolist()
    for axes, label, color in zip(rows, (1, 0), (PNEUMONIA, NORMAL), strict=True):
        images = scores[labels == label]
        axes.hist(
            images, bins=edges, color=color, label=f"{CLASS_NAMES[label]}, {to_amount(len(images), 'image')}"
        )
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
        axes.set(ylabel="images", xlim=(-0.02, 1.02))
        axes.legend(loc="upper center", framealpha=0.9)
    rows[0].set(title=f"Scores by class; called pneumonia right of {threshold:.3g}")
    rows[1].set(xlabel="score")
    return plot


def draw_threshold_curve(
    labels: Labels, scores: Scores, threshold: float, prevalence: float | None = None
) -> Figure:
    """Sensitivity, specificity and accuracy at every threshold, with the operating point.

    Args:
        labels: Of the images.
        scores: Of the images.
        threshold: The operating point.
        prevalence: Share of pneumonia to which accuracy is corrected; the images' own if None.
    """
    plot, (axes,) = build_plot()
    thresholds, sensitivity, specificity, accuracy = to_threshold_curves(labels, scores)
    if prevalence is not None:
        accuracy = prevalence * sensitivity + (1 - prevalence) * specificity
    curves = {"sensitivity": sensitivity, "specificity": specificity, "accuracy": accuracy}
    for (name, curve), color in zip(curves.items(), (PNEUMONIA, NORMAL, ACCENT), strict=True):
        axes.plot(thresholds, curve, color=color, drawstyle="steps-post", label=name)
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3g}")
    axes.set(title="What another threshold would give", xlabel="threshold")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="lower center")
    return plot


def build_plot(height_ratios: tuple[int, ...] = (1,)) -> tuple[Figure, list[Axes]]:
    """A figure of the size of a panel, its axes one above the other."""
    plot = Figure(figsize=PANEL_INCHES, layout="constrained")
    FigureCanvasAgg(plot)
    axes = plot.subplots(len(height_ratios), 1, sharex=True, squeeze=False, height_ratios=height_ratios)
    for one in axes[:, 0]:
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
    return plot, list(axes[:, 0])


def write_undefined(plot: Figure, axes: Axes) -> Figure:
    """Says in place of a curve why there is none."""
    axes.text(0.5, 0.5, "undefined: the images are of one class", ha="center", va="center")
    return plot
