"""The pictures of an audit, on one page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.audit.audit import Audit, Place, measure_exposure
from pneumo_keras.data.films import LabelledFilms, count_classes
from pneumo_keras.files import explain_unwritable, replace_whole, write_whole
from pneumo_keras.reporting.audit_text import format_audit
from pneumo_keras.reporting.plots import DOTS_PER_INCH, save_plot

CLASS_COLOURS = ("#6c8ebf", "#c8553d")
SPLIT_COLOURS = ("#3b6ea5", "#e08a1e", "#2a7f62", "#8a8a8a")
SAMPLES = 6
BIN_WIDTH = 8


def write_audit(
    folder: Path,
    splits: Mapping[str, LabelledFilms],
    audit: Audit,
    document: Mapping[str, Any],
    *,
    title: str,
) -> None:
    """Writes `audit.json`, `audit.txt` and `audit.png`.

    Raises:
        RunError: The folder cannot be written.
    """
    with explain_unwritable(folder, option="--out"):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "audit.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
        write_whole(folder / "audit.txt", format_audit(audit, heading=title) + "\n")
        with replace_whole(folder / "audit.png") as beside:
            save_plot(draw_audit(splits, audit, title=title), beside)


def draw_audit(splits: Mapping[str, LabelledFilms], audit: Audit, *, title: str) -> Figure:
    """Class counts, exposure, mean films, and films that stand twice or nearly so. 1,600 px wide.

    Args:
        splits: The films that were audited.
        audit: What was found.
        title: Names the films.
    """
    figure = Figure(figsize=(1600 / DOTS_PER_INCH, 1500 / DOTS_PER_INCH), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13)
    top, middle, bottom = _to_rows(figure, [1.15, 0.85, 1.25])
    counts, normal, pneumonia = top.subplots(1, 3)
    _draw_counts(counts, audit)
    _draw_exposure((normal, pneumonia), splits)
    _draw_means(middle, splits)
    identical, alike = _to_rows(bottom, [1, 1])
    _draw_identical(identical, splits, audit)
    _draw_closest(alike, splits, audit)
    return figure


def _to_rows(figure: Figure | SubFigure, heights: list[float]) -> list[SubFigure]:
    rows: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    return list(rows)


def _draw_counts(axes: Axes, audit: Audit) -> None:
    places = np.arange(len(audit.splits))
    highest = 0
    for label, (name, colour) in enumerate(zip(CLASS_NAMES, CLASS_COLOURS, strict=True)):
        counts = [(facts.normal, facts.pneumonia)[label] for facts in audit.splits.values()]
        bars = axes.bar(places + 0.4 * (label - 0.5), counts, 0.38, color=colour, label=name)
        texts = [
            f"{count:,}\n{count / facts.films:.1%}"
            for count, facts in zip(counts, audit.splits.values(), strict=True)
        ]
        axes.bar_label(bars, texts, fontsize=8)
        highest = max(highest, *counts)
    axes.set(title="Films by class", ylabel="films", ylim=(0, 1.25 * highest))
    axes.set_xticks(places, list(audit.splits))
    axes.legend(loc="upper right")


def _draw_exposure(pair: tuple[Axes, Axes], splits: Mapping[str, LabelledFilms]) -> None:
    bins = list(range(0, 256 + BIN_WIDTH, BIN_WIDTH))
    greys = {split: measure_exposure(films.images)["mean grey"] for split, films in splits.items()}
    low, high = (function(list(map(function, greys.values()))) for function in (min, max))
    for label, (axes, name) in enumerate(zip(pair, CLASS_NAMES, strict=True)):
        for (split, films), colour in zip(splits.items(), SPLIT_COLOURS, strict=False):
            values = greys[split][films.labels == label]
            weights = np.full(len(values), 1 / max(len(values), 1))
            axes.hist(
                values, bins, weights=weights, histtype="step", color=colour, linewidth=1.6, label=split
            )
        axes.set(
            title=f"Mean grey, {name} films", xlabel="grey, 0 black to 255 white", ylabel="share of films"
        )
        axes.set_xlim(low - BIN_WIDTH, high + BIN_WIDTH)
        axes.grid(alpha=0.3)
        axes.legend()
    pair[1].sharey(pair[0])


def _draw_means(figure: SubFigure, splits: Mapping[str, LabelledFilms]) -> None:
    figure.suptitle("Mean films", fontsize=12)
    shown = [
        (f"{split}, {name}\n{n:,} films", films.images[films.labels == label].mean(axis=0) if n else None)
        for split, films in splits.items()
        for label, (name, n) in enumerate(zip(CLASS_NAMES, count_classes(films.labels), strict=True))
    ]
    for axes, (caption, film) in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
        _draw_film(axes, film, caption)


def _draw_identical(figure: SubFigure, splits: Mapping[str, LabelledFilms], audit: Audit) -> None:
    groups = audit.identical.groups
    shown = [
        (splits[group[0].split].images[group[0].index], "\n".join(map(_to_caption, group[:3])))
        for group in groups[:SAMPLES]
    ]
    more = f", {SAMPLES} of {len(groups):,}" if len(groups) > SAMPLES else ""
    _draw_row(figure, f"Films that stand more than once{more}", shown)


def _draw_closest(figure: SubFigure, splits: Mapping[str, LabelledFilms], audit: Audit) -> None:
    closest = sorted(audit.alike.closest.values(), key=lambda pair: -pair.similarity)
    pairs = list(dict.fromkeys([*audit.alike.pairs[:SAMPLES], *closest]))[:SAMPLES]
    shown = []
    for pair in pairs:
        first, second = (splits[place.split].images[place.index] for place in (pair.first, pair.second))
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
    _draw_row(figure, f"Closest films that are not identical ({rule})", shown)


def _put_beside(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two films with a white line between; a film of another height is repeated or cut to fit."""
    if first.shape != second.shape:
        rows, columns = (
            np.arange(size) * other // size for size, other in zip(first.shape, second.shape, strict=True)
        )
        second = second[rows][:, columns]
    gap = np.full((len(first), max(1, len(first) // 28)), 255, np.uint8)
    return np.hstack([first, gap, second])


def _draw_row(figure: SubFigure, title: str, shown: list[tuple[np.ndarray, str]]) -> None:
    figure.suptitle(title if shown else f"{title}: none", fontsize=12)
    for axes, (film, caption) in zip(
        figure.subplots(1, SAMPLES), shown + [(None, "")] * SAMPLES, strict=False
    ):
        _draw_film(axes, film, caption)


def _draw_film(axes: Axes, film: np.ndarray | None, caption: str) -> None:
    axes.set_axis_off()
    axes.set_title(caption, fontsize=8)
    if film is not None:
        axes.imshow(film, cmap="gray", vmin=0, vmax=255)


def _to_caption(place: Place) -> str:
    return f"{place.split}[{place.index}] {CLASS_NAMES[place.label]}"
