"""Runs compared on the same films."""

from collections.abc import Sequence
from pathlib import Path

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.comparison import Difference, compare_figures
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.files import explain_unwritable, replace_whole
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
    metrics = [run.load_document(dict, f"metrics_{split}.json") for run in runs]
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
        with explain_unwritable(picture, option="--out"), replace_whole(picture) as beside:
            save_plot(figure, beside)
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
