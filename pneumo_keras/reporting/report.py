"""A run on one split as a page: `report.html`, one file that needs nothing beside itself."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import jinja2
import numpy as np
from jaxtyping import UInt8

from pneumo_keras.arrays import CLASS_NAMES, SPLIT_NAMES, Scores
from pneumo_keras.data.images import LabelledImages, count_classes, hash_labels
from pneumo_keras.data.sources import DataCard, ImageNames
from pneumo_keras.evaluation.calibration import Calibration, to_reliability_bins
from pneumo_keras.evaluation.comparison import Difference
from pneumo_keras.evaluation.intervals import LEVEL, Interval
from pneumo_keras.evaluation.metrics import find_mistakes, to_prevalence
from pneumo_keras.evaluation.patients import Patients
from pneumo_keras.evaluation.report_card import Evaluation, ThresholdMetrics
from pneumo_keras.evaluation.threshold import RULES, OperatingPoint
from pneumo_keras.reporting.evaluation_text import (
    ROBUSTNESS_HEADER,
    describe_backwards,
    describe_correction,
    describe_new_patients,
    describe_one_class,
    describe_out_of_distribution,
    describe_patients,
    describe_robustness,
    describe_short_intervals,
    list_robustness,
)
from pneumo_keras.reporting.explanations import CAVEAT, Evidence, paint_evidence, to_limit
from pneumo_keras.reporting.formats import DASH, format_bounds, format_number, format_percent, format_share
from pneumo_keras.reporting.plots import (
    draw_precision_recall,
    draw_reliability,
    draw_robustness,
    draw_score_distributions,
    draw_summary,
    draw_threshold_curve,
    encode_image,
    encode_panels,
    encode_plot,
)
from pneumo_keras.storage.printable import to_printable

MISTAKES = 8  # of each kind


@dataclass(frozen=True)
class PerturbedImages:
    """Perturbed images: scores of all of a split, and the first of them as the network saw them."""

    scores: Scores
    examples: UInt8[np.ndarray, "_examples _height _width"]


@dataclass(frozen=True)
class FineTuned:
    """Blocks of the network, from the lowest on, that were trained once the head was fitted.

    `kept` tells whether a lower validation loss let them keep what they learnt.
    """

    block: str
    learning_rate: float
    kept: bool


@dataclass(frozen=True)
class ReportContents:
    """Everything that a report shows.

    Attributes:
        weights: As in `model.weights`: `imagenet`, `none` or a file.
        images: Of the split, with their labels; scores, evidence and names go by their indices.
        evidence: Maps of the most confident mistakes.
        perturbed: The same images perturbed, if that was asked for.
        prevalence: To which scores, operating point and figures were corrected, if any was stated.
        history: A row an epoch, as in `history.csv`.
        epoch_chosen: Whether the epoch was chosen by the validation loss.
        settings: Text of `config.toml`, files by their names alone.
        environment: `environment.json`.
        of_others: Whether the images are others than those that the run was made with.
    """

    run: str
    split: str
    date: str
    card: DataCard
    weights: str
    images: LabelledImages
    scores: Scores
    evaluation: Evaluation
    evidence: Mapping[int, Evidence]
    perturbed: PerturbedImages | None
    prevalence: float | None
    calibration: Calibration
    operating_point: OperatingPoint
    history: Sequence[dict[str, float]]
    epoch_chosen: bool
    settings: str
    environment: Mapping[str, Any]
    fine_tuned: FineTuned | None = None
    of_others: bool = False
    patients: Patients | None = None
    names: ImageNames = field(default_factory=ImageNames)

    @property
    def at_threshold(self) -> ThresholdMetrics:
        """At the operating point."""
        return self.evaluation.at_threshold

    @property
    def at_thresholds(self) -> list[ThresholdMetrics]:
        """At the operating point, and at 0.5 where that is another threshold."""
        at_half = self.evaluation.at_half
        same = self.at_threshold.threshold == at_half.threshold
        return [self.at_threshold] if same else [self.at_threshold, at_half]


MAP_EDGE = 140  # pixels: as large as the page shows it


@dataclass(frozen=True)
class ImagePicture:
    """An image for the page: as data URIs, the second with its map over it ("" without one), and in words."""

    uri: str
    alt: str
    caption: str
    map_uri: str = ""


def picture_image(contents: ReportContents, index: int, limit: float) -> ImagePicture:
    """An image with its name, label, score and map, if any (`limit`: see `to_limit`)."""
    label, score = CLASS_NAMES[contents.images.labels[index]], format_number(contents.scores[index])
    name = name_image(contents, index)
    image, evidence = contents.images.read(slice(index, index + 1))[0], contents.evidence.get(index)
    painted = None if evidence is None else paint_evidence(image, evidence, limit=limit, edge=MAP_EDGE)
    return ImagePicture(
        encode_image(image),
        alt=f"{name}, labelled {label}, score {score}",
        caption=f"{name}: {label}, score {score}",
        map_uri="" if painted is None else encode_image(painted),
    )


def name_image(contents: ReportContents, index: int) -> str:
    """The file of an image, by its name alone where its path leads through this machine, and its patient."""
    files, patients = contents.names.files, contents.names.patients
    if files is None:
        name = f"{'Synthetic image' if contents.card.synthetic else 'Image'} {index}"
    else:
        path = PurePath(files[index])
        name = to_printable(path.name if path.is_absolute() else files[index])
    return f"{name}, patient {to_printable(patients[index])}" if patients and patients[index] else name


def picture_perturbed(contents: ReportContents, index: int) -> ImagePicture:
    """A perturbed image with its name, label and both scores."""
    perturbed: Any = contents.perturbed
    label, plain = CLASS_NAMES[contents.images.labels[index]], format_number(contents.scores[index])
    score, name = format_number(perturbed.scores[index]), name_image(contents, index)
    return ImagePicture(
        encode_image(perturbed.examples[index]),
        alt=f"{name} perturbed, labelled {label}, score {score}, unperturbed {plain}",
        caption=f"{name}: {label}, score {score}, unperturbed {plain}",
    )


TEMPLATES = Path(__file__).with_name("templates")
UNLISTED = ("images", "class_weights", "paths")
"""Of `environment.json`: what the data card shows, and paths, which are nobody else's business."""

SCALINGS = {
    "none": "none: the heads' own log odds",
    "temperature": "temperature: log odds times {slope}",
    "platt": "Platt: log odds times {slope}, plus {intercept}",
}


def format_report(contents: ReportContents) -> str:
    """The page, HTML in UTF-8: the same text for the same contents."""
    missed, alarms = find_mistakes(
        contents.images.labels, contents.scores, contents.at_threshold.threshold, limit=MISTAKES
    )
    limit = to_limit(list(contents.evidence.values()))
    chosen_on, stated = contents.operating_point.chosen_on, contents.prevalence
    prevalence = "" if stated is None else format_share(stated)
    title = f"{contents.run}: {SPLIT_NAMES[contents.split]}"
    outside = contents.evaluation.out_of_distribution
    examples = contents.perturbed.examples if contents.perturbed else ()
    robustness = contents.evaluation.perturbed.robustness if contents.evaluation.perturbed else None
    return load_template().render(
        contents=contents,
        title=f"{title}, corrected to a prevalence of {prevalence}" if prevalence else title,
        correction="" if stated is None else describe_correction(stated),
        short_intervals=describe_short_intervals(
            contents.at_threshold.counts, contents.at_threshold.short_intervals
        ),
        outside=describe_out_of_distribution(outside, contents.at_threshold.n) if outside else "",
        one_class=describe_one_class(contents.at_threshold),
        patients=describe_patients(contents.at_threshold.patients, contents.at_threshold.n),
        new_patients=describe_new_patients(contents.evaluation),
        backwards=describe_backwards(contents.at_threshold),
        prevalence=prevalence,
        own_prevalence=format_percent(to_prevalence(contents.images.labels)),
        weights=name_weights(contents.weights),
        level=format_share(LEVEL),
        rule=contents.operating_point.describe_rule(),
        chosen_on_validation=describe_choices(contents),
        point_images=SPLIT_NAMES.get(chosen_on, chosen_on),
        scaling=describe_scaling(contents.calibration),
        meaning=describe_prevalence(contents),
        plots=draw_plots(contents),
        missed=[picture_image(contents, index, limit) for index in missed.tolist()],
        alarms=[picture_image(contents, index, limit) for index in alarms.tolist()],
        limit=f"{limit:.0f}" if contents.evidence else "",
        caveat=CAVEAT,
        perturbed=[picture_perturbed(contents, index) for index in range(len(examples))],
        kinds=list_robustness(robustness) if robustness else (),
        kinds_header=ROBUSTNESS_HEADER,
        kinds_meaning=describe_robustness(robustness) if robustness else "",
        kinds_plot=encode_plot(draw_robustness(robustness, title="")) if robustness else "",
        splits=list_splits(contents),
        environment=list(flatten(contents.environment)),
    )


@functools.cache
def load_template() -> jinja2.Template:
    """The page's template; everything put into it is escaped, and can be printed."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: (
            "\n".join(map(to_printable, value.split("\n"))) if type(value) is str else value
        ),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "interval": format_interval,
        "change": functools.partial(format_number, sign="+"),
        "changes": functools.partial(format_interval, sign="+"),
        "share": format_normal_share,
    }
    return environment.get_template("report.html.jinja")


def format_interval(figure: Interval | Difference, sign: str = "") -> str:
    """`0.860 to 0.922`; a dash where a bound is undefined."""
    return format_bounds(figure.low, figure.high, sign=sign)


def format_normal_share(class_counts: Sequence[int]) -> str:
    """Share of normal images; a dash without images."""
    return format_percent(class_counts[0] / sum(class_counts)) if sum(class_counts) else DASH


def name_weights(weights: str) -> str:
    """Where the frozen network's weights come from; a file by its name."""
    return {"imagenet": "imagenet", "none": "none (random)"}.get(weights, Path(weights).name)


def describe_choices(contents: ReportContents) -> str:
    """What was chosen on validation images, and what that does to their figures."""
    chosen = ["the epoch"] * contents.epoch_chosen
    chosen += ["the operating point"] * RULES[contents.operating_point.rule].from_images
    chosen += ["the calibration"] * (contents.calibration.method != "none")
    if not chosen:
        return "Nothing was fitted or chosen on these images in this run; its settings may have been."
    *others, final = chosen
    words = f"{', '.join(others)} and {final} were" if others else f"{final} was"
    return f"{words[0].upper()}{words[1:]} chosen on these images: the figures are flattered by that."


def describe_scaling(calibration: Calibration) -> str:
    """What was done to the log odds."""
    slope, intercept = format_number(calibration.slope), format_number(calibration.intercept)
    return SCALINGS[calibration.method].format(slope=slope, intercept=intercept)


def describe_prevalence(contents: ReportContents) -> str:
    """Among which images a score is to be read as a probability."""
    trained = format_percent(contents.calibration.prevalence)
    if contents.prevalence is None:
        return f"images of which {trained} show pneumonia"
    stated = format_share(contents.prevalence)
    return (
        f"images of which {stated} show pneumonia, as was stated for this evaluation (fitted for {trained})"
    )


def draw_plots(contents: ReportContents) -> dict[str, str]:
    """Data URIs by name: the summary's four panels, and the curves that it has no room for."""
    labels, scores, at_threshold = contents.images.labels, contents.scores, contents.at_threshold
    summary = draw_summary(contents.history, labels, scores, at_threshold, title="")
    bins = to_reliability_bins(labels, scores, prevalence=contents.prevalence, patients=contents.patients)
    more = {
        "precision_recall": draw_precision_recall(labels, scores, at_threshold, contents.prevalence),
        "reliability": draw_reliability(bins),
        "scores": draw_score_distributions(labels, scores, at_threshold.threshold),
        "thresholds": draw_threshold_curve(labels, scores, at_threshold.threshold, contents.prevalence),
    }
    panels = zip(("loss", "accuracy", "confusion", "roc"), encode_panels(summary), strict=True)
    return {**dict(panels), **{name: encode_plot(plot) for name, plot in more.items()}}


def list_splits(contents: ReportContents) -> list[dict[str, Any]]:
    """The splits that the training knew, and that of the page, as `environment.json` describes them."""
    images = contents.images
    own = {
        "class_counts": count_classes(images.labels),
        "sha256": images.fingerprint(),
        "labels_sha256": hash_labels(images.labels),
    }
    known = {**contents.environment.get("images", {}), contents.split: own}
    return [{"name": name, **known[split]} for split, name in SPLIT_NAMES.items() if split in known]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested tables as text, dotted; None as a dash. Without what is `UNLISTED`."""
    for name, value in tree.items():
        if not prefix and name in UNLISTED:
            continue
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, DASH if value is None else str(value)
