"""An evaluation as text, for a terminal."""

from collections.abc import Mapping

from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.report_card import Evaluation, Judgement
from pneumo_keras.evaluation.spread import MemberSpread

SHOWN = ("auc", "accuracy", "sensitivity", "specificity")


def format_judgement(judgement: Judgement, *, heading: str) -> str:
    """Every figure with its interval, the confusion counts, and the spread over members.

    Args:
        judgement: Of one split.
        heading: Names the run and the split.
    """
    evaluation = judgement.evaluation
    level = f"{evaluation.level:.0%}".replace("%", " %")
    lines = [heading, "", f"{'':<22}{'value':>8}   {level + ' interval':<18}"]
    for name, figure in evaluation.figures.items():
        label = name.replace("_", " ").replace("auc", "AUC")
        lines.append(
            f"{label:<22}{figure.value:>8.4f}   {figure.low:.4f} to {figure.high:.4f}   {figure.method}"
        )
    lines += ["", _format_counts(evaluation)]
    if judgement.at_half.threshold != evaluation.threshold:
        at_half = judgement.at_half
        figures = ", ".join(f"{name} {at_half.figures[name].value:.4f}" for name in SHOWN[1:])
        lines += [_format_counts(at_half), f"There: {figures}."]
    if judgement.members:
        lines += ["", *_format_members(judgement.members)]
    return "\n".join(lines)


def _format_counts(evaluation: Evaluation) -> str:
    counts = evaluation.counts
    return (
        f"At threshold {evaluation.threshold:.4g}: {counts.tp} of {counts.tp + counts.fn} pneumonia films "
        f"found, {counts.tn} of {counts.tn + counts.fp} normal films called normal "
        f"(tn {counts.tn}, fp {counts.fp}, fn {counts.fn}, tp {counts.tp})."
    )


def _format_members(members: Mapping[str, MemberSpread]) -> list[str]:
    shown = {name.replace("auc", "AUC"): members[name] for name in SHOWN}
    count = len(members["auc"].values)
    return [f"{f'each of {count} members':<22}{'mean':>8}   {'deviation':>9}   lowest to highest"] + [
        f"{name:<22}{spread.mean:>8.4f}   {spread.deviation:>9.4f}   "
        f"{min(spread.values):.4f} to {max(spread.values):.4f}"
        for name, spread in shown.items()
    ]


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
