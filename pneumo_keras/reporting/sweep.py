"""A sweep on disk and on the terminal: the table, the picture and the best settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pneumo_keras.evaluation.ranking import Candidate, choose_simplest, list_equals
from pneumo_keras.files import format_csv, replace_whole, write_whole
from pneumo_keras.reporting.plots import ACCENT, DOTS_PER_INCH, GREY, TRAINING, save_plot

SHOWN = 10
COLUMNS = 3


def write_sweep(
    folder: Path, ranked: Sequence[Candidate], chosen: Mapping[str, tuple[Candidate, str]], *, title: str
) -> None:
    """Writes `sweep.csv` and the chosen settings, in place of earlier ones.

    Args:
        folder: Of the sweep.
        ranked: The candidates so far, the best first.
        chosen: By the name of the file: a candidate, and the configuration with its settings as TOML.
        title: Names the films and the folds.
    """
    write_whole(folder / "sweep.csv", format_table(ranked))
    for name, (candidate, settings) in chosen.items():
        head = (
            f"# The {name} of {len(ranked)} combinations: log loss {candidate.to_mean('log_loss'):.4f}, "
            f"AUC {candidate.to_mean('auc'):.4f}, {candidate.weights:,} weights.\n# {title}.\n"
        )
        write_whole(folder / f"{name}.toml", head + settings)


def write_sweep_plot(folder: Path, ranked: Sequence[Candidate], *, title: str) -> None:
    """Writes `sweep.png`."""
    with replace_whole(folder / "sweep.png") as beside:
        save_plot(draw_sweep(ranked, title=title), beside)


def format_table(ranked: Sequence[Candidate]) -> str:
    """The candidates as CSV, the best first."""
    return format_csv(
        [{"rank": place, **_to_cells(candidate)} for place, candidate in enumerate(ranked, start=1)]
    )


def format_sweep(ranked: Sequence[Candidate], *, heading: str) -> str:
    """The best candidates for a terminal, mean and deviation over folds."""
    keys = _list_varied(ranked)
    cells = [[_to_text(candidate.values[key]) for key in keys] for candidate in ranked[:SHOWN]]
    names = [key.partition(".")[2] for key in keys]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    lines = [heading, "", "   ".join([f"{'log loss':<17}", f"{'AUC':<17}", f"{'accuracy':<17}"]) + "   "]
    lines[-1] += "   ".join(name.ljust(width) for name, width in zip(names, widths, strict=True))
    for candidate, row in zip(ranked, cells, strict=False):
        figures = [
            f"{candidate.to_mean(name):.4f} +- {candidate.to_deviation(name):.4f}"
            for name in ("log_loss", "auc", "accuracy")
        ]
        values = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        lines.append("   ".join([*(figure.ljust(17) for figure in figures), *values]).rstrip())
    equals, simplest = list_equals(ranked), choose_simplest(ranked)
    values = ", ".join(f"{key.partition('.')[2]} {_to_text(simplest.values[key])}" for key in keys)
    return "\n".join(
        [
            *lines,
            "",
            f"{len(ranked)} combinations; mean and standard deviation over folds, at the epoch kept in each.",
            f"Within one standard error of the best: {len(equals)}. The simplest of them, with "
            f"{simplest.weights:,} weights: {values}.",
        ]
    )


def draw_sweep(ranked: Sequence[Candidate], *, title: str) -> Figure:
    """The log loss of every candidate against each setting that was varied. 1,600 px wide.

    Args:
        ranked: The best first.
        title: Names the films and the folds.
    """
    keys = _list_varied(ranked) or list(ranked[0].values)[:1]
    columns = 2 if len(keys) in (2, 4) else min(COLUMNS, len(keys))
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(1600 / DOTS_PER_INCH, (120 + 560 * rows) / DOTS_PER_INCH), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    losses = np.array([candidate.to_mean("log_loss") for candidate in ranked])
    for axes, key in zip(panels, keys, strict=False):
        _draw_setting(axes, key, ranked, losses)
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("log loss, mean over folds")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9, markerscale=0.7
    )
    return figure


def _draw_setting(axes: Axes, key: str, ranked: Sequence[Candidate], losses: np.ndarray) -> None:
    texts = [_to_text(candidate.values[key]) for candidate in ranked]
    values = list(dict.fromkeys(_to_text(value) for value in _list_values(ranked, key)))
    places = np.array([values.index(text) for text in texts])
    jitter = np.random.default_rng(0).uniform(-0.16, 0.16, len(places))
    axes.scatter(places + jitter, losses, s=12, color=TRAINING, alpha=0.35, linewidths=0, label="combination")
    medians = [np.nanmedian(losses[places == place]) for place in range(len(values))]
    axes.scatter(range(len(values)), medians, marker="_", s=700, color=GREY, linewidths=2, label="median")
    axes.scatter(places[0], losses[0], marker="*", s=130, color=ACCENT, zorder=3, label="best")
    axes.set_xticks(range(len(values)), [value.replace(" ", "\n") for value in values], fontsize=8)
    axes.set_xlim(-0.6, len(values) - 0.4)
    finite = losses[np.isfinite(losses)]
    # The worst combinations would squeeze the good ones into a line.
    top = np.quantile(finite, 0.9) if len(finite) > SHOWN else finite.max()
    axes.set_ylim(finite.min() - 0.1 * (top - finite.min()) - 1e-6, top + 0.1 * (top - finite.min()) + 1e-6)
    axes.set_title(key, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _list_varied(ranked: Sequence[Candidate]) -> list[str]:
    return [key for key in ranked[0].values if len({_to_text(one.values[key]) for one in ranked}) > 1]


def _list_values(ranked: Sequence[Candidate], key: str) -> list[Any]:
    return sorted(
        (candidate.values[key] for candidate in ranked), key=lambda value: (str(type(value)), value)
    )


def _to_cells(candidate: Candidate) -> dict[str, Any]:
    return {name: _to_text(value) for name, value in candidate.to_row().items()}


def _to_text(value: Any) -> str:
    """`mixed2 mixed4` for a list, `1e-05` for a number, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
