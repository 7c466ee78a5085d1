"""The pictures of an audit, on one page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import StrMethodFormatter

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.audit.audit import Audit
from pneumo_keras.audit.traces import PerImage, Place, measure_exposure
from pneumo_keras.data.images import LabelledImages, count_classes, iterate_images
from pneumo_keras.reporting.audit_text import format_audit
from pneumo_keras.reporting.plots import DOTS_PER_INCH, save_plot
from pneumo_keras.storage.files import claim_folder, explain_unwritable, replace_whole, write_whole
from pneumo_keras.storage.printable import to_amount, to_printable

CLASS_COLOURS = ("#6c8ebf", "#c8553d")
SPLIT_COLOURS = ("#3b6ea5", "#e08a1e", "#2a7f62", "#8a8a8a")
SAMPLES = 6
BIN_WIDTH = 8

Image = UInt8[np.ndarray, "height width"]
MeanImage = Float64[np.ndarray, "height width"]


@dataclass(frozen=True)
class _Picture:
    """What is drawn of a split: mean grey of each image, and the mean image of each class there is."""

    greys: PerImage
    means: list[MeanImage | None]


def write_audit(
    folder: Path,
    splits: Mapping[str, LabelledImages],
    audit: Audit,
    document: Mapping[str, Any],
    *,
    title: str,
) -> None:
    """Writes `audit.json`, `audit.txt` and `audit.png`.

    Raises:
        RunError: The folder is taken, or cannot be written.
    """
    plot = draw_audit(splits, audit, title=title)
    with claim_folder(folder, option="--out"), explain_unwritable(folder, option="--out"):
        write_whole(folder / "audit.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
        write_whole(folder / "audit.txt", format_audit(audit, heading=title) + "\n")
        with replace_whole(folder / "audit.png") as beside:
            save_plot(plot, beside)


def draw_audit(splits: Mapping[str, LabelledImages], audit: Audit, *, title: str) -> Figure:
    """Class counts, exposure, mean images, and images that stand twice or nearly so. 1,600 px wide.

    Args:
        splits: The images that were audited.
        audit: What was found.
        title: Names the images.
    """
    heights = [530, 390, 310 if audit.identical.groups else 45, 280]
    size = (1600 / DOTS_PER_INCH, sum(heights) / DOTS_PER_INCH)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08))
    FigureCanvasAgg(figure)
    figure.suptitle(to_printable(title), fontsize=13, parse_math=False)
    pictures = {split: _average(images) for split, images in splits.items()}
    rows: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    top, middle, identical, alike = rows
    counts, *pair = top.subplots(1, 3)
    _draw_counts(counts, audit)
    _draw_exposure(pair, splits, pictures)
    _draw_means(middle, audit, pictures)
    _draw_identical(identical, splits, audit)
    _draw_closest(alike, splits, audit)
    return figure


def _average(source: LabelledImages) -> _Picture:
    sums = np.zeros((len(CLASS_NAMES), *source.shape))
    greys = []
    start = 0
    for images in iterate_images(source):
        labels = source.labels[start : start + len(images)]
        start += len(images)
        greys.append(measure_exposure(images)[0])
        for label, total in enumerate(sums):
            total += images[labels == label].sum(axis=0)
    counts = count_classes(source.labels)
    means = [total / n if n else None for total, n in zip(sums, counts, strict=True)]
    return _Picture(np.concatenate(greys), means)


def _read_image(splits: Mapping[str, LabelledImages], place: Place) -> Image:
    return splits[place.split].read(slice(place.index, place.index + 1))[0]


def _draw_counts(axes: Axes, audit: Audit) -> None:
    places = np.arange(len(audit.splits))
    highest = 0
    for label, (name, colour) in enumerate(zip(CLASS_NAMES, CLASS_COLOURS, strict=True)):
        counts = [(facts.normal, facts.pneumonia)[label] for facts in audit.splits.values()]
        bars = axes.bar(places + 0.46 * (label - 0.5), counts, 0.44, color=colour, label=name)
        texts = [
            f"{count:,}\n{100 * count / facts.images:.1f} %"
            for count, facts in zip(counts, audit.splits.values(), strict=True)
        ]
        axes.bar_label(bars, texts, fontsize=8)
        highest = max(highest, *counts)
    axes.set(title="ImageSet by class", ylabel="images", ylim=(0, 1.25 * highest))
    axes.set_xticks(places, list(audit.splits))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.legend(loc="upper right")


def _draw_exposure(
    panels: Sequence[Axes], splits: Mapping[str, LabelledImages], pictures: Mapping[str, _Picture]
) -> None:
    bins = list(range(0, 256 + BIN_WIDTH, BIN_WIDTH))
    greys = np.concatenate([picture.greys for picture in pictures.values()])
    for label, (axes, name) in enumerate(zip(panels, CLASS_NAMES, strict=True)):
        for (split, images), colour in zip(splits.items(), SPLIT_COLOURS, strict=False):
            values = pictures[split].greys[images.labels == label]
            weights = np.full(len(values), 100 / max(len(values), 1))
            axes.hist(
                values, bins, weights=weights, histtype="step", color=colour, linewidth=1.6, label=split
            )
        axes.set(title=f"Mean grey, {name} images", xlabel="grey, 0 black to 255 white", ylabel="% of images")
        axes.set_xlim(greys.min() - BIN_WIDTH, greys.max() + BIN_WIDTH)
        axes.grid(alpha=0.3)
        axes.legend()
    panels[1].sharey(panels[0])


def _draw_means(figure: SubFigure, audit: Audit, pictures: Mapping[str, _Picture]) -> None:
    figure.suptitle("Mean images", fontsize=12)
    shown = [
        (f"{split}, {name}\n{to_amount(n, 'image')}", mean)
        for split, facts in audit.splits.items()
        for name, n, mean in zip(
            CLASS_NAMES, (facts.normal, facts.pneumonia), pictures[split].means, strict=True
        )
    ]
    for axes, (caption, image) in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
        _draw_image(axes, image, caption)


def _draw_identical(figure: SubFigure, splits: Mapping[str, LabelledImages], audit: Audit) -> None:
    groups = audit.identical.groups
    shown = [
        (_read_image(splits, group[0]), "\n".join(map(_to_caption, group[:3]))) for group in groups[:SAMPLES]
    ]
    more = f", {SAMPLES} of {len(groups):,}" if len(groups) > SAMPLES else ""
    _draw_row(figure, f"Images that stand more than once{more}", shown)


def _draw_closest(figure: SubFigure, splits: Mapping[str, LabelledImages], audit: Audit) -> None:
    closest = sorted(audit.alike.closest.values(), key=lambda pair: -pair.similarity)
    pairs = list(dict.fromkeys([*audit.alike.pairs[:SAMPLES], *closest]))[:SAMPLES]
    shown = []
    for pair in pairs:
        first, second = (_read_image(splits, place) for place in (pair.first, pair.second))
        second = second[:, ::-1] if pair.mirrored else second
        mirrored = ", mirrored" if pair.mirrored else ""
        lines = (
            _to_caption(pair.first),
            f"{_to_caption(pair.second)}{mirrored}",
            f"similarity {pair.similarity:.3f}",
        )
        shown.append((_put_beside(first, second), "\n".join(lines)))
    found = sum(audit.alike.counts.values())
    rule = f"almost equal from {audit.alike.similarity:g} on: {found:,} found"
    _draw_row(figure, f"Closest images that are not identical ({rule})", shown)


def _put_beside(first: Image, second: UInt8[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "height both"]:
    """Two images with a white line between; an image of another height is repeated or cut to fit."""
    if first.shape != second.shape:
        rows, columns = (
            np.arange(size) * other // size for size, other in zip(first.shape, second.shape, strict=True)
        )
        second = second[rows][:, columns]
    gap = np.full((len(first), max(1, len(first) // 28)), 255, np.uint8)
    return np.hstack([first, gap, second])


def _draw_row(figure: SubFigure, title: str, shown: list[tuple[np.ndarray, str]]) -> None:
    figure.suptitle(title if shown else f"{title}: none", fontsize=12)
    for axes, (image, caption) in zip(
        figure.subplots(1, SAMPLES) if shown else (), shown + [(None, "")] * SAMPLES, strict=False
    ):
        _draw_image(axes, image, caption)


def _draw_image(axes: Axes, image: Image | MeanImage | None, caption: str) -> None:
    axes.set_axis_off()
    axes.set_title(caption, fontsize=8)
    if image is not None:
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)


def _to_caption(place: Place) -> str:
    return f"{place.split}[{place.index}] {CLASS_NAMES[place.label]}"
