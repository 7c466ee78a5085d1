"""A sweep on disk and on the terminal: the table, the picture and the best settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumo_keras.evaluation.ranking import CRITERION, Candidate, choose_cheapest, list_within_one_error
from pneumo_keras.reporting.formats import format_table
from pneumo_keras.reporting.plots import ACCENT, TRAINING, VALIDATION, build_figure, save_plot
from pneumo_keras.storage.files import format_csv, replace_atomically, write_atomically
from pneumo_keras.storage.printable import to_amount, to_printable

SHOWN = 10
FIGURES = {
    CRITERION: "mean log loss",
    "log_loss": "log loss",
    "perturbed_log_loss": "perturbed log loss",
    "auc": "AUC",
    "perturbed_auc": "perturbed AUC",
}
COLUMNS = 3
MOST_ACROSS = 8  # values whose names fit side by side


def write_sweep(
    folder: Path, ranked: Sequence[Candidate], chosen: Mapping[str, tuple[Candidate, str]], *, title: str
) -> None:
    """Replaces `sweep.csv`, of the candidates so far, and the chosen settings.

    `chosen` has, by the name of the file, a candidate and the configuration with its settings as TOML. The
    title names the images and the folds.
    """
    rows = [
        {"rank": rank, **{name: _to_text(value) for name, value in one.to_row().items()}}
        for rank, one in enumerate(ranked, start=1)
    ]
    write_atomically(folder / "sweep.csv", format_csv(rows))
    for name, (one, settings) in chosen.items():
        head = (
            f"# The {name} of {to_amount(len(ranked), 'combination')}. "
            f"Log loss {one.to_mean('log_loss'):.4f}, perturbed {one.to_mean('perturbed_log_loss'):.4f}; "
            f"AUC {one.to_mean('auc'):.4f}, perturbed {one.to_mean('perturbed_auc'):.4f}.\n"
            f"# {one.operations / 1e9:.2f} GFLOP an image, {one.weights:,} weights.\n# {title}.\n"
        )
        write_atomically(folder / f"{name}.toml", head + settings)


def write_sweep_plot(folder: Path, ranked: Sequence[Candidate], *, title: str) -> None:
    """Writes `sweep.png`."""
    with replace_atomically(folder / "sweep.png") as partial:
        save_plot(draw_sweep(ranked, title=title), partial)


def format_sweep(ranked: Sequence[Candidate], *, heading: str) -> str:
    """The best candidates for a terminal, mean and standard deviation over folds."""
    keys = _list_varied(ranked)
    rows = [
        [
            *(f"{one.to_mean(name):.4f} +- {one.to_deviation(name):.4f}" for name in FIGURES),
            *(_to_text(one.values[key]) for key in keys),
        ]
        for one in ranked[:SHOWN]
    ]
    hidden = [f"{SHOWN} of {len(ranked)} shown, all in sweep.csv."] if len(ranked) > SHOWN else []
    equals, cheapest = list_within_one_error(ranked), choose_cheapest(ranked)
    values = ", ".join(f"{_to_name(key)} {_to_text(cheapest.values[key])}" for key in keys)
    return "\n".join(
        [
            to_printable(heading),
            "",
            format_table(rows, header=[*FIGURES.values(), *map(_to_name, keys)]),
            "",
            *hidden,
            f"{to_amount(len(ranked), 'combination')}; log loss of held-out images as they are and "
            "perturbed, and the mean of both; mean and standard deviation over folds.",
            f"Within one standard error of the best: {len(equals)}. The cheapest of them, with "
            f"{cheapest.operations / 1e9:.2f} GFLOP an image and {cheapest.weights:,} weights: {values}.",
        ]
    )


def draw_sweep(ranked: Sequence[Candidate], *, title: str) -> Figure:
    """The log loss of every candidate, the best first, against each setting that varies. 1,600 px wide."""
    keys = _list_varied(ranked) or list(ranked[0].values)[:1]
    columns = 2 if len(keys) in (2, 4) else min(COLUMNS, len(keys))
    rows = -(-len(keys) // columns)
    low, high = _choose_range(ranked)
    above = sum(not one.to_mean(CRITERION) <= high for one in ranked)
    hidden = f"\nAbove the range shown: {above} of {len(ranked)}" if above else ""
    plot = build_figure(1600, 160 + 560 * rows, to_printable(title) + hidden, fontsize=12)
    panels = plot.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    equals = set(map(id, list_within_one_error(ranked)))
    equal = np.array([id(one) in equals for one in ranked])
    for axes, key in zip(panels, keys, strict=False):
        _draw_setting(axes, key, ranked, equal)
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("mean of plain and perturbed log loss")
    panels[0].set_ylim(low, high)
    handles, names = panels[0].get_legend_handles_labels()
    plot.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return plot


def _draw_setting(
    axes: Axes, key: str, ranked: Sequence[Candidate], equal: Bool[np.ndarray, " candidates"]
) -> None:
    texts = [_to_text(candidate.values[key]) for candidate in ranked]
    values = list(dict.fromkeys(map(_to_text, sorted((one.values[key] for one in ranked), key=_to_order))))
    positions = np.array([values.index(text) for text in texts])
    losses = np.array([candidate.to_mean(CRITERION) for candidate in ranked])
    # Left of the middle, which belongs to the best of each value and its bar.
    jitter = np.random.default_rng(0).uniform(-0.28, -0.08, len(positions))
    style: Any = {"s": 22, "alpha": 0.75, "linewidths": 0}
    for which, color, name in (
        (~equal, TRAINING, "a combination"),
        (equal, ACCENT, "within one standard error of the best"),
    ):
        axes.scatter((positions + jitter)[which], losses[which], color=color, label=name, **style)
    best = [ranked[texts.index(value)] for value in values]
    axes.errorbar(
        np.arange(len(values)),
        [one.to_mean(CRITERION) for one in best],
        yerr=[one.to_deviation(CRITERION) for one in best],
        fmt="o",
        markersize=7,
        capsize=5,
        color="black",
        elinewidth=1.6,
        label="best of the value, deviation over folds",
    )
    axes.plot(positions[0], losses[0], "*", markersize=15, color=VALIDATION, label="best of all", zorder=3)
    names = [value.replace(" ", "\n") or "-" for value in values]
    axes.set_xticks(range(len(values)), names, fontsize=9, rotation=90 if len(values) > MOST_ACROSS else 0)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_title(key, fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _choose_range(ranked: Sequence[Candidate]) -> tuple[float, float]:
    """Of the log loss: without the worst combinations, which would squeeze the good ones into a line."""
    losses = np.array([candidate.to_mean(CRITERION) for candidate in ranked])
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return 0.0, 1.0
    deviation = ranked[0].to_deviation(CRITERION)
    highest = np.quantile(finite, 0.9) if len(finite) > SHOWN else finite.max()
    return max(0.0, float(finite.min() - 1.3 * deviation) - 1e-6), float(highest + 1.3 * deviation) + 1e-6


def _list_varied(ranked: Sequence[Candidate]) -> list[str]:
    return [key for key in ranked[0].values if len({_to_text(one.values[key]) for one in ranked}) > 1]


def _to_order(value: Any) -> tuple[str, Any]:
    """By the kind of value first."""
    return str(type(value)), value


def _to_name(key: str) -> str:
    """`feature_layers` for `model.feature_layers`."""
    return key.partition(".")[2]


def _to_text(value: Any) -> str:
    """`mixed2 mixed4` for a list, `1e-05` for a number, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
