"""A run on one split as a page: `report.html`, one file that needs nothing beside itself."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from pneumo_keras.arrays import CLASS_NAMES, SPLIT_NAMES, Scores
from pneumo_keras.data.films import LabelledFilms, count_classes
from pneumo_keras.data.pneumonia_mnist import catalog
from pneumo_keras.evaluation.intervals import Interval
from pneumo_keras.evaluation.mistakes import find_mistakes
from pneumo_keras.evaluation.reliability import to_reliability_bins
from pneumo_keras.evaluation.report_card import Evaluation, Judgement
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.reporting.plots import draw_summary
from pneumo_keras.reporting.report_plots import (
    draw_precision_recall,
    draw_reliability,
    draw_score_distributions,
    draw_threshold_curve,
    encode_film,
    encode_panels,
    encode_plot,
)

TEMPLATE = Path(__file__).with_name("report.html.jinja")
MISTAKES = 8
DASH = "-"

SCALINGS = {
    "none": "none: the heads' own log odds",
    "temperature": "temperature: log odds times {slope}",
    "platt": "Platt: log odds times {slope}, plus {intercept}",
}


@dataclass(frozen=True)
class ReportContents:
    """Everything that a report shows.

    Attributes:
        run: Name of the run.
        split: `train`, `val` or `test`.
        date: As it is to be shown.
        source: As in `data.source`: `phantom`, `pneumonia_mnist` or another.
        source_name: What the films are, for people: `PneumoniaMNIST, 28 px`.
        weights: As in `model.weights`: `imagenet`, `none` or a file.
        films: Of the split, with their labels.
        scores: Of the same films.
        judgement: Of the scores, together and member by member.
        prevalence: The share of pneumonia that the scores were corrected for, if any was stated.
        calibration: `calibration.json`.
        operating_point: The run's.
        history: A row an epoch, as in `history.csv`.
        settings: Text of `config.toml`.
        environment: `environment.json`.
    """

    run: str
    split: str
    date: str
    source: str
    source_name: str
    weights: str
    films: LabelledFilms
    scores: Scores
    judgement: Judgement
    prevalence: float | None
    calibration: Mapping[str, Any]
    operating_point: OperatingPoint
    history: Sequence[dict[str, float]]
    settings: str
    environment: Mapping[str, Any]

    @property
    def synthetic(self) -> bool:
        """Whether no patient stands behind the films."""
        return self.source == "phantom"

    @property
    def evaluation(self) -> Evaluation:
        """At the operating point."""
        return self.judgement.evaluation

    @property
    def evaluations(self) -> list[Evaluation]:
        """At the operating point, and at 0.5 where that is another threshold."""
        at_half = self.judgement.at_half
        same = self.evaluation.threshold == at_half.threshold
        return [self.evaluation] if same else [self.evaluation, at_half]


@dataclass(frozen=True)
class FilmPicture:
    """A film for the page: its data URI, what it shows in words, and what stands below it."""

    uri: str
    alt: str
    caption: str


def format_report(contents: ReportContents) -> str:
    """The page, HTML in UTF-8: the same text for the same contents."""
    missed, alarms = find_mistakes(
        contents.films.labels, contents.scores, contents.evaluation.threshold, limit=MISTAKES
    )
    chosen_on = contents.operating_point.chosen_on
    return load_template().render(
        contents=contents,
        split_name=SPLIT_NAMES[contents.split],
        weights=name_weights(contents.weights),
        level=format_percent(contents.evaluation.level, digits=0),
        rule=contents.operating_point.describe_rule(),
        scaling=describe_scaling(contents.calibration),
        meaning=describe_prevalence(contents),
        chosen_on=SPLIT_NAMES.get(chosen_on, chosen_on),
        plots=draw_plots(contents),
        missed=[picture_film(contents, index) for index in missed],
        alarms=[picture_film(contents, index) for index in alarms],
        splits=list(list_splits(contents)),
        unofficial=list_unofficial_splits(contents),
        official=catalog.CLASS_COUNTS,
        licence=catalog.load_licence() if contents.source == "pneumonia_mnist" else "",
        citation=catalog.CITATION,
        class_weights=contents.environment.get("class_weights", {}),
        environment=list(flatten(contents.environment)),
    )


@functools.cache
def load_template() -> jinja2.Template:
    """The page's template; everything put into it is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": format_number,
        "interval": format_interval,
        "share": format_normal_share,
    }
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def format_number(value: float | None) -> str:
    """Three decimals; a dash for NaN or None."""
    return DASH if value is None or math.isnan(value) else f"{value:.3f}"


def format_interval(figure: Interval) -> str:
    """`0.860 to 0.922`; a dash where a bound is undefined."""
    if math.isnan(figure.low) or math.isnan(figure.high):
        return DASH
    return f"{figure.low:.3f} to {figure.high:.3f}"


def format_percent(share: float, *, digits: int = 1) -> str:
    """`25.8 %`."""
    return f"{100 * share:.{digits}f} %"


def format_normal_share(class_counts: tuple[int, int]) -> str:
    """Share of normal films; a dash without films."""
    return format_percent(class_counts[0] / sum(class_counts)) if sum(class_counts) else DASH


def name_weights(weights: str) -> str:
    """Where the frozen network's weights come from; a file by its name."""
    return {"imagenet": "imagenet", "none": "none (random)"}.get(weights, Path(weights).name)


def describe_scaling(calibration: Mapping[str, Any]) -> str:
    """What was done to the log odds."""
    slope, intercept = format_number(calibration["slope"]), format_number(calibration["intercept"])
    return SCALINGS[calibration["method"]].format(slope=slope, intercept=intercept)


def describe_prevalence(contents: ReportContents) -> str:
    """Among which films a score is to be read as a probability."""
    trained = format_percent(contents.calibration["prevalence"])
    if contents.prevalence is None:
        return f"films of which {trained} show pneumonia"
    stated = format_percent(contents.prevalence)
    return f"films of which {stated} show pneumonia, as was stated for this evaluation (fitted for {trained})"


def picture_film(contents: ReportContents, index: int) -> FilmPicture:
    """A film with its index, label and score."""
    label, score = CLASS_NAMES[contents.films.labels[index]], format_number(contents.scores[index])
    kind = "Synthetic film" if contents.synthetic else "Film"
    return FilmPicture(
        encode_film(contents.films.read(slice(index, index + 1))[0]),
        alt=f"{kind} {index}, labelled {label}, score {score}",
        caption=f"{kind} {index}: {label}, score {score}",
    )


def draw_plots(contents: ReportContents) -> dict[str, str]:
    """Data URIs by name: the summary's four panels, and the curves that it has no room for."""
    labels, scores, evaluation = contents.films.labels, contents.scores, contents.evaluation
    summary = draw_summary(contents.history, labels, scores, evaluation, title="")
    more = {
        "precision_recall": draw_precision_recall(labels, scores, evaluation),
        "reliability": draw_reliability(to_reliability_bins(labels, scores)),
        "scores": draw_score_distributions(labels, scores, evaluation.threshold),
        "thresholds": draw_threshold_curve(labels, scores, evaluation.threshold),
    }
    panels = zip(("loss", "accuracy", "confusion", "roc"), encode_panels(summary), strict=True)
    return {**dict(panels), **{name: encode_plot(figure) for name, figure in more.items()}}


def list_splits(contents: ReportContents) -> Iterator[tuple[str, tuple[int, int], str]]:
    """Each known split: its name, counts of normal and pneumonia films, fingerprint."""
    known = {
        split: (tuple(part["class_counts"]), part["sha256"])
        for split, part in contents.environment.get("films", {}).items()
    }
    known[contents.split] = (count_classes(contents.films.labels), contents.films.fingerprint)
    for split in sorted(known, key=list(SPLIT_NAMES).index):
        yield SPLIT_NAMES[split], *known[split]


def list_unofficial_splits(contents: ReportContents) -> list[str]:
    """Splits whose class counts are not those of the official file."""
    if contents.source != "pneumonia_mnist":
        return []
    official = {SPLIT_NAMES[split]: counts for split, counts in catalog.CLASS_COUNTS.items()}
    return [name for name, counts, _ in list_splits(contents) if counts != official[name]]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested tables as text, dotted; None as a dash. Without what the data card shows."""
    for name, value in tree.items():
        if not prefix and name in ("films", "class_weights"):
            continue
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, DASH if value is None else str(value)
