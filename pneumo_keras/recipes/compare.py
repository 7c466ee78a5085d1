"""Runs compared on the same films."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.comparison import Difference, compare_figures
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.files import replace_whole
from pneumo_keras.reporting.plots import draw_rocs, save_plot
from pneumo_keras.runs.folder import RunFolder


def compare_runs(
    first: RunFolder, others: Sequence[RunFolder], split: str, picture: Path | None = None
) -> list[dict[str, Difference]]:
    """Paired differences of all figures, each of the others minus the first, on the same films.

    Args:
        first: What the others are compared with.
        others: One run or more.
        split: On whose films.
        picture: Where the ROC curves of all runs are drawn, as PNG.

    Raises:
        RunError: A run has no scores of the split, the runs were scored on different films, or the
            picture cannot be written.
    """
    runs = [first, *others]
    metrics = [run.load_json(f"metrics_{split}.json") for run in runs]
    for run, found in zip(runs, metrics, strict=True):
        if found["films_sha256"] != metrics[0]["films_sha256"]:
            raise RunError(
                f"Runs can be compared on the same films alone. {first.path} and {run.path} were scored on "
                f"different {SPLIT_NAMES[split]}."
            )
    judged = [load_scores(run.path / f"scores_{split}.csv") for run in runs]
    labels, scores = judged[0][0], [of_run for _, of_run in judged]
    thresholds = [found["threshold"] for found in metrics]
    if picture:
        figure = draw_rocs(
            labels,
            {
                str(run.path): (of_run, threshold)
                for run, of_run, threshold in zip(runs, scores, thresholds, strict=True)
            },
            title=f"{len(labels):,} {SPLIT_NAMES[split]}",
        )
        try:
            with replace_whole(picture) as beside:
                save_plot(figure, beside)
        except OSError as error:
            raise RunError(f"--out must name a file that can be written. {picture}: {error}") from error
    return [
        compare_figures(
            labels,
            scores[0],
            scores[index],
            first_threshold=thresholds[0],
            second_threshold=thresholds[index],
            seed=metrics[0]["seed"],
        )
        for index in range(1, len(runs))
    ]


def find_changes(first: RunFolder, second: RunFolder) -> dict[str, tuple[str, str]]:
    """Settings in which two runs differ, by dotted key: both values as text, "" for one that is unset."""
    before, after = (_to_texts(run.load_config().model_dump(mode="json")) for run in (first, second))
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def _to_texts(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            texts |= _to_texts(value, f"{prefix}{name}.")
        else:
            texts[prefix + name] = "" if value is None else str(value)
    return texts
