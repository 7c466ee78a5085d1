"""An evaluation as text, for a terminal."""

from collections.abc import Mapping

from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.report_card import Evaluation


def format_evaluation(evaluation: Evaluation, *, heading: str) -> str:
    """Every figure with its interval, then the confusion counts.

    Args:
        evaluation: Of one split.
        heading: Names the run and the split.
    """
    level = f"{evaluation.level:.0%}".replace("%", " %")
    lines = [heading, "", f"{'':<22}{'value':>8}   {level + ' interval':<18}"]
    for name, figure in evaluation.figures.items():
        label = name.replace("_", " ").replace("auc", "AUC")
        lines.append(
            f"{label:<22}{figure.value:>8.4f}   {figure.low:.4f} to {figure.high:.4f}   {figure.method}"
        )
    counts = evaluation.counts
    lines += [
        "",
        f"At threshold {evaluation.threshold:.4g}: {counts.tp} of {counts.tp + counts.fn} pneumonia films "
        f"found, {counts.tn} of {counts.tn + counts.fp} normal films called normal "
        f"(tn {counts.tn}, fp {counts.fp}, fn {counts.fn}, tp {counts.tp}).",
    ]
    return "\n".join(lines)


def format_differences(differences: Mapping[str, Difference], *, heading: str) -> str:
    """Every paired difference with its interval and p-value.

    Args:
        differences: By the name of the figure.
        heading: Names the runs and the split.
    """
    lines = [heading, "", f"{'':<22}{'difference':>10}   {'95 % interval':<20}{'p':>8}"]
    for name, figure in differences.items():
        label = name.replace("_", " ").replace("auc", "AUC")
        interval = f"{figure.low:+.4f} to {figure.high:+.4f}"
        lines.append(
            f"{label:<22}{figure.value:>+10.4f}   {interval:<20}{figure.p_value:>8.4f}   {figure.method}"
        )
    return "\n".join(lines)
