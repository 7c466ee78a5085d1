"""Figures by kind of perturbation as text. Their picture is in `plots`, which takes long to import."""

from pneumo_keras.evaluation.robustness import PerturbedFigures, Robustness
from pneumo_keras.reporting.numbers import DASH, format_number, format_percent

HEADER = (
    *("kind, mean of five severities", "AUC", "accuracy", "sensitivity", "specificity", "balanced error"),
    *("log odds", "changed", "OOD", "of AlexNet's"),
)
ALIGN = "lrrrrrrrrr"


def list_rows(robustness: Robustness) -> list[list[str]]:
    """The images as they are, then each kind."""
    plain, benchmark = robustness.unperturbed, robustness.medmnist_c
    return [
        _to_row("unperturbed", plain, benchmark.clean_relative_error),
        *(_to_row(name_kind(name), one.mean, one.relative_error) for name, one in robustness.kinds.items()),
    ]


def describe_robustness(robustness: Robustness) -> str:
    """What the columns mean and the figure of MedMNIST-C, in a paragraph."""
    benchmark = robustness.medmnist_c
    mean = format_number(benchmark.mean_relative_error)
    return (
        "Balanced error: 1 less the mean of sensitivity and specificity at the operating point. Log odds: "
        "mean change. Changed: share of images with another prediction. OOD: share of images out of "
        "distribution. "
        f"Mean balanced error relative to AlexNet's at 224 px, over the {len(benchmark.alexnet) - 1} "
        f"corruptions of {benchmark.source}: {mean}."
    )


def name_kind(name: str) -> str:
    """A kind for people."""
    words = name.replace("_corr_", " ").replace("_", " ")
    return words.replace("jpeg", "JPEG").replace("gaussian", "Gaussian")


def _to_row(name: str, figures: PerturbedFigures, relative_error: float | None) -> list[str]:
    shares = (figures.auc, figures.accuracy, figures.sensitivity, figures.specificity, figures.balanced_error)
    return [
        name,
        *map(format_number, shares),
        format_number(figures.mean_shift, digits=2, sign="+"),
        *(format_percent(share) for share in (figures.changed, figures.out_of_distribution)),
        DASH if relative_error is None else format_number(relative_error, digits=2),
    ]
