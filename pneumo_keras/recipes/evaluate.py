"""A run evaluated on a split of its images, or on others."""

import functools
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_keras.arrays import Images, Scores
from pneumo_keras.config import (
    Config,
    change_config,
    find_cache,
    format_config,
    name_files,
    resolve_paths,
)
from pneumo_keras.data.image_preparation import JPEG_LENGTH, JPEG_QUALITY, ResizedImages, measure_sample
from pneumo_keras.data.overlap import PerImage, load_hashes
from pneumo_keras.data.sources import DataCard
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.comparison import compare_figures
from pneumo_keras.evaluation.patients import to_groups
from pneumo_keras.evaluation.report_card import Distances, Evaluation, PerturbedEvaluation
from pneumo_keras.evaluation.robustness import ScoredImages
from pneumo_keras.evaluation.scores import format_medmnist_scores, format_scores, to_medmnist_name
from pneumo_keras.features.store import iterate_rows
from pneumo_keras.features.views import PLAIN, View, list_evaluated_views
from pneumo_keras.recipes.explain import explain_mistakes
from pneumo_keras.recipes.extraction import build_extractor, open_network
from pneumo_keras.recipes.images import (
    Split,
    compare_patients,
    describe_split,
    open_data,
    open_evaluated,
    open_own_data,
    open_splits,
)
from pneumo_keras.recipes.perturbations import list_kinds, measure_robustness
from pneumo_keras.recipes.scoring import compute_log_odds, decide, evaluate_members, write_scores
from pneumo_keras.recipes.views import list_perturbed_views
from pneumo_keras.reporting.evaluation_text import describe_seen
from pneumo_keras.reporting.plots import draw_robustness, draw_summary, save_plot
from pneumo_keras.reporting.report import PerturbedImages, ReportContents, format_report
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import Run
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

MOST = 0.5  # of the images evaluated: with more that were seen they are the run's own, not others
UNSAFE = r"[^\w.-]+"  # in the name of a folder
LONGEST = 60  # characters of such a name: four bytes each, and a folder may have 255
NAME_BYTES = 100  # of a run's name within that of a file, which can have 255
EXAMPLES = 6  # perturbed images that a report shows

Show = Callable[[RunFolder, Evaluation], object]
"""Takes the folder of an evaluation, and the evaluation, before anything is written."""


@dataclass(frozen=True)
class Task:
    """A finished run, and the images that it is evaluated on.

    Attributes:
        name: For the report.
        run: With settings that name these images.
        config: The same settings with the paths of this machine.
        card: Describes the images.
        split: The images.
        seen: Of images other than the run's own: how many are among those it learnt from. None for its own.
        new: Which show patients that no earlier split shows; None where that is unknown.
    """

    name: str
    run: Run
    config: Config
    card: DataCard
    split: Split
    seen: int | None = None
    new: PerImage | None = None


def evaluate_run(
    run: Run,
    split_name: str,
    prevalence: float | None = None,
    *,
    perturb: bool = False,
    moved: str | None = None,
    show: Show = lambda *_: None,
) -> Evaluation:
    """Scores a split with the saved model and writes its scores, metrics and pictures.

    Everything is computed, and given to `show`, before any file of the run is replaced. `moved` is the path
    of the run's images if they were moved; for the other options see `evaluate_images`.
    """
    config, data = open_own_data(run, moved)
    patients, new = compare_patients(data, split_name)
    split = open_splits(data, (split_name,))[split_name]
    task = Task(run.name, run, config, replace(data.card, patients=patients), split, new=new)
    contents = evaluate_images(task, prevalence, perturb=perturb)
    show(run.folder, contents.evaluation)
    write_evaluation(run.folder, task, contents)
    return contents.evaluation


def evaluate_other_images(
    run: Run,
    path: Path,
    split_name: str,
    prevalence: float | None = None,
    *,
    positive: str | None = None,
    name: str | None = None,
    perturb: bool = False,
    show: Show = lambda *_: None,
) -> tuple[RunFolder, Evaluation]:
    """Scores labelled images that the run was not made with, and writes the same of them.

    Operating point and calibration are the run's: nothing is learnt from the images that are evaluated. They
    are an npz file, a folder by class, or a CSV; without splits, all are the test split. `positive` is the
    class that is pneumonia, if not that of the run's settings, `name` that of the folder for the evaluation,
    if not that of the images. For the other options see `evaluate_run`.

    Returns:
        The folder of the evaluation, within that of the run, and the evaluation.

    Raises:
        RunError: The run was trained on these images, or that folder has an evaluation on others.
    """
    settings = change_config(
        run.config,
        {
            "data.source": "pneumonia_mnist" if path.suffix == ".npz" else "folder",
            "data.path": str(path),
            "data.positive": positive or run.config.data.positive,
        },
    )
    paths = {key: value for key, value in run.environment["paths"].items() if key != "data.path"}
    config = resolve_paths(settings, paths)
    target = run.folder.to_evaluation(choose_name(path, name))
    data = open_data(config, run.preparation)
    split = open_evaluated(data, split_name)
    seen = _count_seen(run, config, split, is_whole=data.open_all is not None)
    notices = [_describe_preparation(run, config, split), data.card.notice]
    card = replace(data.card, notice=" ".join(filter(None, notices)))
    about = _describe_images(target, config, card, split, seen)
    task = Task(
        name=f"{run.name} on {target.path.name}",
        # The report does not mention the training images here.
        run=replace(run, config=settings, environment={**run.environment, "images": {}}),
        config=config,
        card=_describe_limits(card, run),
        split=split,
        seen=seen,
    )
    contents = evaluate_images(task, prevalence, perturb=perturb)
    show(target, contents.evaluation)
    target.write_json("environment.json", about)
    target.write_text("config.toml", format_config(settings))
    write_evaluation(target, task, contents)
    return target, contents.evaluation


def evaluate_images(task: Task, prevalence: float | None, *, perturb: bool) -> ReportContents:
    """Scores images with the saved model of a run, and collects everything that a report shows.

    Scores, operating point and metrics are corrected to a prevalence in (0, 1), if given; no prediction
    changes. With `perturb`, the images are also evaluated perturbed: by the run's settings, and by kind
    and severity.
    """
    run, config, split = task.run, task.config, task.split
    head, calibration, ood_detector = run.head, run.calibration, run.ood_detector
    shift, _ = run.to_prevalence(prevalence)
    point, seed = run.operating_point, config.perturbation.seed
    size, flip = config.model.image_size, config.model.flip_average
    network = open_network(run, config.compute)
    extractor = build_extractor(config, network, must_share=False)

    def measure_distances(seen: Split, view: View) -> Distances:
        table = extractor.extract(seen.images, seen.title, view)
        return np.concatenate([ood_detector.measure(features) for features in iterate_rows(table)])

    def evaluate_views(
        views: Sequence[View], distances: Distances | None = None
    ) -> tuple[Scores, Evaluation]:
        log_odds = compute_log_odds(extractor, head, split, views)
        scores = decide(calibration, log_odds)
        evaluation = evaluate_members(
            config, split, log_odds, calibration, point, shift, distances=distances, new=task.new
        )
        return shift.correct_scores(scores) if shift else scores, evaluation

    def score(seen: Split, view: View) -> ScoredImages:
        log_odds = compute_log_odds(extractor, head, seen, list_evaluated_views(flip, view))
        distances = measure_distances(seen, view)
        scores = decide(calibration, log_odds)
        return ScoredImages(log_odds.mean(axis=1, dtype=np.float64), scores, distances)

    plain, all_at_once = list_evaluated_views(flip), list_perturbed_views(config, flip_average=flip)
    kinds = list_kinds(split, seed=seed) if perturb else {}
    jobs = [(seen.images, list_evaluated_views(flip, view)) for _, seen, view in kinds.values()]
    extractor.check_space([(split.images, [*plain, *all_at_once] if perturb else plain), *jobs])
    scores, evaluation = evaluate_views(plain, measure_distances(split, PLAIN))
    perturbed = None
    if perturb:
        perturbed_scores, of_perturbed = evaluate_views(all_at_once)
        threshold = evaluation.threshold
        changes = compare_figures(
            split.images.labels,
            scores,
            perturbed_scores,
            first_threshold=threshold,
            second_threshold=threshold,
            seed=config.seed,
            patients=to_groups(split.names.patients),
            prevalence=prevalence,
        )
        robustness = measure_robustness(
            split, kinds, score, threshold=point.threshold, shift=shift, seed=seed
        )
        settings = config.perturbation.model_dump(mode="json")
        found = PerturbedEvaluation(
            **vars(of_perturbed), changes=changes, perturbation=settings, robustness=robustness
        )
        evaluation = replace(evaluation, perturbed=found)
        perturbed = PerturbedImages(perturbed_scores, _show_images(split, all_at_once[0], size))
    return ReportContents(
        name=task.name,
        run=run,
        split=split.name,
        date=time.strftime("%Y-%m-%d"),
        card=task.card,
        images=split.images,
        names=split.names,
        scores=scores,
        evaluation=evaluation,
        evidence=explain_mistakes(run, network, split, scores, evaluation.threshold),
        settings=format_config(name_files(run.config)),
        perturbed=perturbed,
        seen=task.seen,
    )


def _show_images(split: Split, view: View, size: int) -> Images:
    """The first images of a split as a view shows them to the network."""
    images = split.images.read(slice(EXAMPLES))
    return view.enlarge(images, range(len(images)), size).round().astype(np.uint8)


def write_evaluation(folder: RunFolder, task: Task, contents: ReportContents) -> None:
    """Writes scores, metrics, MedMNIST's result file, the summary's picture and the report."""
    split, evaluation = task.split, contents.evaluation
    stated = evaluation.stated_prevalence
    corrected = "" if stated is None else f"_prevalence_{stated:g}"
    suffix = ("" if split.name == "test" else f"_{split.name}") + corrected
    report = f"report{suffix}.html"
    log.info("Drawing plots and writing the report")
    page = format_report(contents)
    title = f"{contents.name}: {len(split.images):,} {split.title}"
    summary = draw_summary(
        task.run.history,
        split.images.labels,
        contents.scores,
        evaluation,
        title=title if stated is None else f"{title}, corrected to a prevalence of {stated:g}",
    )
    write_scores(folder, split, contents.scores, evaluation, corrected)
    if contents.perturbed and evaluation.perturbed:
        suffixed = f"{split.name}_perturbed{corrected}"
        table = format_scores(
            split.images.labels, contents.perturbed.scores, split.names.files, split.names.patients
        )
        folder.write_text(f"scores_{suffixed}.csv", table)
        folder.write_json(f"metrics_{suffixed}.json", evaluation.perturbed)
        plot = draw_robustness(evaluation.perturbed.robustness, title=f"{title}, perturbed")
        folder.write_with(f"figures/perturbations{suffix}.png", functools.partial(save_plot, plot))
    if contents.card.medmnist_name and stated is None:
        _write_medmnist_scores(folder, task.config.data.size, split.name, contents)
    folder.write_with(f"figures/summary{suffix}.png", functools.partial(save_plot, summary))
    folder.write_text(report, page)
    folder.update_manifest()
    log.info("Report: %s", folder.path / report)


def _write_medmnist_scores(folder: RunFolder, size: int, split: str, contents: ReportContents) -> None:
    """Writes MedMNIST's standard result file, and replaces an older one."""
    figures = contents.evaluation.at_half.figures
    file = to_medmnist_name(
        split=split,
        auc=figures["auc"].value,
        accuracy=figures["accuracy"].value,
        run=to_part_of_name(contents.name),
        size=size,
    )
    for older in folder.path.glob(f"{contents.card.medmnist_name}_{split}_[[]AUC]*.csv"):
        older.unlink()
    folder.write_text(file, format_medmnist_scores(contents.scores))


def to_part_of_name(run: str) -> str:
    """A run's name as a part of that of a file: letters, digits, - and _."""
    return re.sub(r"[^\w-]+", "-", run).encode()[:NAME_BYTES].decode(errors="ignore")


def choose_name(path: Path, name: str | None) -> str:
    """A name for the images that every system takes for a folder; RunError where the user's is none."""
    if name is not None:
        if re.search(UNSAFE, name) or not name.strip(".") or len(name) > LONGEST:
            raise RunError(
                f"--name must be of 60 letters, digits, '_', '-' and '.' at most. Received: {name}"
            )
        return name
    path = path.resolve()
    return re.sub(UNSAFE, "-", path.name if path.is_dir() else path.stem)[:LONGEST].strip(".-") or "images"


def _count_seen(run: Run, config: Config, split: Split, *, is_whole: bool) -> int:
    """How many of these images the run was trained on, by their pixels; RunError where it is the most.

    `is_whole`: whether the split is all that the path of the images holds.
    """
    rule = f"--data must name images that the run was not trained on. Received: {config.data.path}"
    own, fingerprint = run.environment["images"].values(), split.images.fingerprint()
    same_path = str(config.data.path) == run.environment["paths"].get("data.path")
    if any(images["sha256"] == fingerprint for images in own) or (is_whole and same_path):
        raise RunError(f"{rule}. Leave it out to evaluate the run on its own.")
    n, found = len(split.images), np.isin(load_hashes(split.images, find_cache()), run.seen_images)
    seen = int(found.sum())
    if seen > n * MOST:
        raise RunError(
            f"{rule}, with {seen:,} of {to_amount(n, 'image')} among its training and validation images. "
            "Take those away."
        )
    if seen:
        log.warning("%s: %s", split.title, describe_seen(seen, n))
    return seen


def _describe_preparation(run: Run, config: Config, split: Split) -> str:
    """A notice on images that were larger, or were not saved as the training images were."""
    if config.data.source != "pneumonia_mnist":  # a folder is prepared as the run's images were
        return ""
    if isinstance(split.images, ResizedImages):
        pixels = split.images.images.shape[0]
        return f"Images of {pixels} px, prepared as the training images were: {run.preparation.describe()}."
    quality = run.preparation.jpeg_quality
    if (measure_sample(split.images) > JPEG_LENGTH) == (quality is not None):
        return ""
    trained = f"were saved as JPEG of quality {quality}" if quality else "were not saved as JPEG"
    these = f"were, of quality {JPEG_QUALITY}" if not quality else "were not"
    notice = f"The images of the training {trained}, these {these}: their scores differ by that."
    log.warning("%s: %s", split.title, notice)
    return notice


def _describe_images(
    target: RunFolder, config: Config, card: DataCard, split: Split, seen: int
) -> dict[str, Any]:
    """`environment.json` of the evaluation; splits that were evaluated before stay in it."""
    path, found = str(config.data.path), describe_split(split)
    about = target.load_document(dict, "environment.json") if target.holds("environment.json") else {}
    known = about.get("images", {})
    # A split that is new there is recognised only by its path.
    same = known[split.name] == found if split.name in known else about.get("paths") == {"data.path": path}
    if about and not same:
        raise RunError(
            f"{target.path} holds an evaluation on other images of that name. Give these another one with "
            "--name, or delete that folder."
        )
    return {
        **describe_environment(),
        "data": {"title": card.title, "notice": card.notice, "files": dict(card.files), "seen": seen},
        "images": {**known, split.name: found},
        "paths": {"data.path": path},
    }


def _describe_limits(card: DataCard, run: Run) -> DataCard:
    """The card with the limits of an evaluation on images other than the run's own."""
    trained = run.environment["data"]["title"]
    return replace(
        card,
        limits=(
            f"It was trained on {trained}, and suits images like those. The images evaluated are others.",
            "Operating point and calibration are those of the run: among other images the same score may "
            "mean another probability.",
        ),
    )
