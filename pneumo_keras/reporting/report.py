"""A run on one split as a page: `report.html`, one file that needs no other."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from pneumo_keras.evaluation.metrics import find_mistakes, has_both_classes, to_prevalence
from pneumo_keras.evaluation.patients import to_groups
from pneumo_keras.evaluation.report_card import Evaluation
from pneumo_keras.evaluation.threshold import RULES
from pneumo_keras.reporting.evaluation_text import (
    ROBUSTNESS_HEADER,
    describe_backwards,
    describe_correction,
    describe_new_patients,
    describe_one_class,
    describe_out_of_distribution,
    describe_patients,
    describe_robustness,
    describe_seen,
    describe_short_intervals,
    describe_subgroups,
    list_robustness,
    name_subgroup,
)
from pneumo_keras.reporting.explanations import CAVEAT, Evidence, paint_evidence, to_limit
from pneumo_keras.reporting.formats import DASH, format_bounds, format_number, format_percent, format_share
from pneumo_keras.reporting.plots import (
    draw_panels,
    draw_precision_recall,
    draw_reliability,
    draw_robustness,
    draw_score_distributions,
    draw_threshold_curve,
    encode_image,
    encode_plot,
)
from pneumo_keras.runs.run import Run
from pneumo_keras.storage.printable import to_amount, to_printable

MISTAKES = 8  # of each kind


@dataclass(frozen=True)
class PerturbedImages:
    """Perturbed images: scores of all of a split, and the first of them as the network saw them."""

    scores: Scores
    examples: UInt8[np.ndarray, "_examples _height _width"]


@dataclass(frozen=True)
class ReportContents:
    """Everything that a report shows.

    Attributes:
        name: Name of the run, for the title.
        run: With settings that name these images.
        images: Images of the split; scores, evidence and names go by their indices.
        scores: Corrected as the evaluation is.
        evidence: Maps of the most confident mistakes.
        settings: Text of `config.toml`, files by their names alone.
        perturbed: The same images perturbed, if requested.
        seen: Of images other than the run's own: how many are among those it learnt from. None for its own.
    """

    name: str
    run: Run
    split: str
    date: str
    card: DataCard
    images: LabelledImages
    names: ImageNames
    scores: Scores
    evaluation: Evaluation
    evidence: Mapping[int, Evidence]
    settings: str
    perturbed: PerturbedImages | None = None
    seen: int | None = None


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
"""Keys of `environment.json` that the page omits: what the data card shows, and paths, which are private."""

SCALINGS = {
    "none": "none: log odds as they are",
    "temperature": "temperature: log odds times {slope}",
    "platt": "Platt: log odds times {slope}, plus {intercept}",
}


def format_report(contents: ReportContents) -> str:
    """The page, HTML in UTF-8: the same text for the same contents."""
    run, evaluation = contents.run, contents.evaluation
    training, point = run.config.training, run.operating_point
    missed, alarms = find_mistakes(
        contents.images.labels, contents.scores, evaluation.threshold, limit=MISTAKES
    )
    limit = to_limit(list(contents.evidence.values()))
    stated, at_half = evaluation.stated_prevalence, evaluation.at_half
    prevalence = "" if stated is None else format_share(stated)
    title = f"{contents.name}: {SPLIT_NAMES[contents.split]}"
    examples = contents.perturbed.examples if contents.perturbed else ()
    robustness = evaluation.perturbed.robustness if evaluation.perturbed else None
    notices = (
        describe_correction(stated),
        describe_other_images(contents),
        describe_one_class(evaluation),
        describe_backwards(evaluation),
    )
    return load_template().render(
        contents=contents,
        evaluation=evaluation,
        thresholds=[evaluation, at_half] if at_half.threshold != evaluation.threshold else [evaluation],
        title=f"{title}, corrected to a prevalence of {prevalence}" if prevalence else title,
        learnt=describe_learning(contents),
        known_patients=describe_known_patients(contents.names),
        notices=list(filter(None, notices)),
        outside=describe_out_of_distribution(evaluation.out_of_distribution, evaluation.n),
        short_intervals=describe_short_intervals(evaluation),
        patients=describe_patients(evaluation.patients, evaluation.n),
        new_patients=describe_new_patients(evaluation),
        subgroups=[
            (column, list(rows))
            for column, rows in itertools.groupby(evaluation.subgroups, lambda one: one.column)
        ],
        subgroups_meaning=describe_subgroups(evaluation),
        prevalence=prevalence,
        own_prevalence=format_percent(to_prevalence(contents.images.labels)),
        defined=has_both_classes(contents.images.labels),
        may_choose=contents.split == "val" and contents.seen is None,
        dropout=run.config.model.dropout,
        weights=name_weights(run.config.model.weights),
        has_random_weights=run.config.model.weights == "none",
        training=training,
        keeps_tuning=run.environment.get("fine_tuned_weights_sha256") != run.environment["weights_sha256"],
        level=format_share(LEVEL),
        point=point,
        rule=point.describe_rule(),
        point_images=SPLIT_NAMES.get(point.chosen_on, point.chosen_on),
        calibration=run.calibration,
        scaling=describe_scaling(run.calibration),
        meaning=describe_prevalence(run.calibration, stated),
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
        environment=list(flatten(run.environment)),
        class_weights=run.environment.get("class_weights", {}),
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
        "prevalence": format_prevalence,
        "subgroup": name_subgroup,
    }
    return environment.get_template("report.html.jinja")


def format_interval(figure: Interval | Difference, sign: str = "") -> str:
    """`0.860 to 0.922`; a dash where a bound is undefined."""
    return format_bounds(figure.low, figure.high, sign=sign)


def format_prevalence(class_counts: Sequence[int]) -> str:
    """Share of pneumonia images; a dash without images."""
    return format_percent(class_counts[1] / sum(class_counts)) if sum(class_counts) else DASH


def name_weights(weights: str) -> str:
    """The source of the frozen network's weights; a file by its name."""
    return {"imagenet": "imagenet", "none": "none (random)"}.get(weights, Path(weights).name)


def describe_learning(contents: ReportContents) -> str:
    """What the run learnt from the images; empty where another notice states it."""
    if contents.seen is None:
        return {
            "train": "The classifier was fitted on these images: the metrics are optimistically biased.",
            "val": describe_choices(contents.run),
            "test": "Nothing was fitted or chosen on these images.",
        }[contents.split]
    if contents.seen:
        return ""
    return "None of these images is among those that the run learnt from, by their pixels."


def describe_other_images(contents: ReportContents) -> str:
    """That the images are others than the run's own, and whether it learnt from some; empty for its own."""
    if contents.seen is None:
        return ""
    trained = contents.run.environment["data"]["title"]
    other = f"Evaluated on other images than those of the training ({trained})."
    return f"{other} {describe_seen(contents.seen, contents.evaluation.n)}".strip()


def describe_known_patients(names: ImageNames) -> str:
    """How many patients the images show; empty where that is unknown."""
    if names.patients is None:
        return ""
    unknown = names.patients.count("")
    known = f"{len(set(names.patients) - {''}):,}"
    return f"{known}, and {to_amount(unknown, 'image')} of unknown patients" if unknown else known


def describe_choices(run: Run) -> str:
    """What was chosen on validation images, and what that does to their metrics."""
    training = run.config.training
    chosen = ["the epoch"] * (training.schedule == "plateau" or training.unfreeze_from is not None)
    chosen += ["the operating point"] * RULES[run.operating_point.rule].from_images
    chosen += ["the calibration"] * (run.calibration.method != "none")
    if not chosen:
        return "Nothing was fitted or chosen on these images in this run; its settings may have been."
    *others, final = chosen
    words = f"{', '.join(others)} and {final} were" if others else f"{final} was"
    return f"{words[0].upper()}{words[1:]} chosen on these images: the metrics are optimistically biased."


def describe_scaling(calibration: Calibration) -> str:
    """What was done to the log odds."""
    slope, intercept = format_number(calibration.slope), format_number(calibration.intercept)
    return SCALINGS[calibration.method].format(slope=slope, intercept=intercept)


def describe_prevalence(calibration: Calibration, stated: float | None) -> str:
    """Among which images a score is to be read as a probability."""
    trained = format_percent(calibration.prevalence)
    if stated is None:
        return f"images of which {trained} show pneumonia"
    return (
        f"images of which {format_share(stated)} show pneumonia, as was stated for this evaluation "
        f"(fitted for {trained})"
    )


def draw_plots(contents: ReportContents) -> dict[str, str]:
    """Data URIs by name: the summary's four panels, and further curves."""
    labels, scores, evaluation = contents.images.labels, contents.scores, contents.evaluation
    prevalence, patients = evaluation.stated_prevalence, to_groups(contents.names.patients)
    bins = to_reliability_bins(labels, scores, prevalence=prevalence, patients=patients)
    plots = {
        **draw_panels(contents.run.history, labels, scores, evaluation),
        "precision_recall": draw_precision_recall(labels, scores, evaluation),
        "reliability": draw_reliability(bins),
        "scores": draw_score_distributions(labels, scores, evaluation.threshold),
        "thresholds": draw_threshold_curve(labels, scores, evaluation.threshold, prevalence),
    }
    return {name: encode_plot(plot) for name, plot in plots.items()}


def list_splits(contents: ReportContents) -> list[dict[str, Any]]:
    """The splits of the training, and that of the page, as `environment.json` describes them."""
    images = contents.images
    own = {
        "class_counts": count_classes(images.labels),
        "sha256": images.fingerprint(),
        "labels_sha256": hash_labels(images.labels),
    }
    known = {**contents.run.environment.get("images", {}), contents.split: own}
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
