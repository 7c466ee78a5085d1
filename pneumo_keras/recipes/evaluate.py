"""A run evaluated on images."""

import functools
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pneumo_keras.arrays import Images, Scores
from pneumo_keras.config import Config, format_config, name_files
from pneumo_keras.data.overlap import PerImage
from pneumo_keras.data.sources import DataCard, ImageNames
from pneumo_keras.evaluation.comparison import compare_figures
from pneumo_keras.evaluation.patients import to_groups
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import Distances, Evaluation, Perturbed
from pneumo_keras.evaluation.robustness import ScoredImages
from pneumo_keras.evaluation.scores import format_medmnist_scores, to_medmnist_name
from pneumo_keras.features.store import iterate_rows
from pneumo_keras.features.views import PLAIN, View, list_evaluated_views
from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.recipes.adapters import list_perturbed_views
from pneumo_keras.recipes.explain import explain_mistakes
from pneumo_keras.recipes.images import (
    Split,
    find_new_patients,
    open_own_data,
    open_splits,
    tell_shared_patients,
)
from pneumo_keras.recipes.network import build_extractor
from pneumo_keras.recipes.perturbations import list_kinds, measure_robustness
from pneumo_keras.recipes.scoring import compute_log_odds, decide, evaluate_members, write_scores
from pneumo_keras.reporting.explanations import Evidence
from pneumo_keras.reporting.plots import draw_robustness, draw_summary, save_plot
from pneumo_keras.reporting.report import FineTuned, PerturbedImages, ReportContents, format_report
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import Run

log = logging.getLogger("pneumo_keras")

NAME_BYTES = 100  # of a run's name within that of a file, which can have 255
EXAMPLES = 6  # perturbed images that a report shows

Tell = Callable[[RunFolder, Evaluation], object]
"""Takes the folder that will hold an evaluation, and the evaluation, before anything is written."""


@dataclass(frozen=True)
class Task:
    """A finished run, and the images that it is evaluated on.

    Attributes:
        name: Of the run, for the report.
        run: With settings that name these images.
        config: The same settings with the paths of this machine.
        card: What the images are.
        split: The images.
        of_others: Whether they are others than those that the run was made with.
        new: Which show patients of whom the run has learnt from no image; None where that is unknown.
    """

    name: str
    run: Run
    config: Config
    card: DataCard
    split: Split
    of_others: bool = False
    new: PerImage | None = None


def evaluate_run(
    run: Run,
    split_name: str,
    prevalence: float | None = None,
    *,
    perturb: bool = False,
    moved: str | None = None,
    tell: Tell = lambda *_: None,
) -> Evaluation:
    """Scores a split with the saved model and writes its scores, figures and pictures.

    Everything is computed before anything of the run is replaced.

    Args:
        run: A finished one.
        split_name: `train`, `val` or `test`.
        prevalence: See `evaluate_images`.
        perturb: See `evaluate_images`.
        moved: Where the run's images lie now, if they were moved.
        tell: Gets the evaluation, which is not lost where the folder cannot be written.
    """
    config, data = open_own_data(run, moved)
    data = tell_shared_patients(data, split_name)
    split = open_splits(data, (split_name,))[split_name]
    task = Task(run.name, run, config, data.card, split, new=find_new_patients(data, split_name))
    contents = evaluate_images(task, prevalence, perturb=perturb)
    tell(run.folder, contents.evaluation)
    write_evaluation(run.folder, task, contents)
    return contents.evaluation


def evaluate_images(task: Task, prevalence: float | None, *, perturb: bool) -> ReportContents:
    """Scores images with the saved model of a run, and gathers everything that a report shows of that.

    Args:
        task: The run and the images.
        prevalence: Where the scores are to be used, in (0, 1). Scores, operating point and figures are
            corrected to it; no prediction changes.
        perturb: Whether the images are also evaluated perturbed: all at once as the run's settings say, and
            by kind and severity.
    """
    run, config, split = task.run, task.config, task.split
    classifier, ood_detector = run.classifier, run.ood_detector
    shift, _ = run.to_prevalence(prevalence)
    point, flip, seed = run.operating_point, classifier.flip_average, config.perturbation.seed
    extractor = build_extractor(config, classifier.frozen, must_share=False)
    to_scores = functools.partial(decide, classifier.decision)

    def measure_distances(seen: Split, view: View) -> Distances:
        table = extractor.extract(seen.images, seen.title, view)
        return np.concatenate([ood_detector.measure(features) for features in iterate_rows(table)])

    def evaluate_views(
        views: Sequence[View], distances: Distances | None = None
    ) -> tuple[Scores, Evaluation]:
        log_odds = compute_log_odds(extractor, classifier.head, split, views)
        scores = to_scores(log_odds)
        evaluation = evaluate_members(
            config, split, log_odds, to_scores, point, shift, distances=distances, new=task.new
        )
        return shift.correct_scores(scores) if shift else scores, evaluation

    def score(seen: Split, view: View) -> ScoredImages:
        log_odds = compute_log_odds(extractor, classifier.head, seen, list_evaluated_views(flip, view))
        distances = measure_distances(seen, view)
        return ScoredImages(log_odds.mean(axis=1, dtype=np.float64), to_scores(log_odds), distances)

    plain, all_at_once = list_evaluated_views(flip), list_perturbed_views(config, flip_average=flip)
    kinds = list_kinds(split, seed=seed) if perturb else {}
    jobs = [(seen.images, list_evaluated_views(flip, view)) for _, seen, view in kinds.values()]
    extractor.check_room([(split.images, [*plain, *all_at_once] if perturb else plain), *jobs])
    scores, evaluation = evaluate_views(plain, measure_distances(split, PLAIN))
    perturbed = None
    if perturb:
        perturbed_scores, of_perturbed = evaluate_views(all_at_once)
        threshold = evaluation.at_threshold.threshold
        changes = compare_figures(
            split.images.labels,
            scores,
            perturbed_scores,
            first_threshold=threshold,
            second_threshold=threshold,
            seed=config.seed,
            patients=to_groups(split.patients),
            prevalence=prevalence,
        )
        robustness = measure_robustness(
            split, kinds, score, threshold=point.threshold, shift=shift, seed=seed
        )
        ranges = config.perturbation.model_dump(mode="json")
        evaluation = replace(evaluation, perturbed=Perturbed(of_perturbed, changes, ranges, robustness))
        perturbed = PerturbedImages(perturbed_scores, _show_images(split, all_at_once[0], classifier.frozen))
    evidence = explain_mistakes(run, split, scores, evaluation.at_threshold.threshold)
    return _gather_report(task, scores, evaluation, evidence, shift, perturbed)


def _show_images(split: Split, view: View, frozen: FrozenPart) -> Images:
    """The first images of a split as a view shows them to the network."""
    images = split.images.read(slice(EXAMPLES))
    shown = view.enlarge(images, range(len(images)), frozen)
    return shown[..., 0].round().astype(np.uint8)


def write_evaluation(folder: RunFolder, task: Task, contents: ReportContents) -> None:
    """Writes scores, metrics, MedMNIST's result file, the summary's picture and the report."""
    split, stated = task.split, contents.prevalence
    corrected = "" if stated is None else f"_prevalence_{stated:g}"
    suffix = ("" if split.name == "test" else f"_{split.name}") + corrected
    report, page = f"report{suffix}.html", format_report(contents)
    title = f"{contents.run}: {len(split.images):,} {split.title}"
    summary = draw_summary(
        contents.history,
        split.images.labels,
        contents.scores,
        contents.at_threshold,
        title=title if stated is None else f"{title}, corrected to a prevalence of {stated:g}",
    )
    write_scores(folder, split, contents.scores, contents.evaluation, corrected)
    if contents.perturbed and contents.evaluation.perturbed:
        found = contents.evaluation.perturbed
        scores, suffixed = contents.perturbed.scores, f"_perturbed{corrected}"
        write_scores(folder, split, scores, found.evaluation, suffixed, perturbed=found)
        plot = draw_robustness(found.robustness, title=f"{title}, perturbed")
        folder.write_with(f"figures/perturbations{suffix}.png", functools.partial(save_plot, plot))
    if contents.card.medmnist_name and stated is None:
        _write_medmnist_scores(folder, task.config.data.size, split.name, contents)
    folder.write_with(f"figures/summary{suffix}.png", functools.partial(save_plot, summary))
    folder.write_text(report, page)
    folder.update_manifest()
    log.info("Report: %s", folder.path / report)


def _gather_report(
    task: Task,
    scores: Scores,
    evaluation: Evaluation,
    evidence: Mapping[int, Evidence],
    shift: PrevalenceShift | None,
    perturbed: PerturbedImages | None,
) -> ReportContents:
    """What the report shows, files by their names alone."""
    run, point, training = task.run, task.run.operating_point, task.run.config.training
    return ReportContents(
        run=task.name,
        split=task.split.name,
        date=time.strftime("%Y-%m-%d"),
        card=task.card,
        weights=run.config.model.weights,
        images=task.split.images,
        patients=to_groups(task.split.patients),
        names=ImageNames(task.split.files, task.split.patients),
        scores=scores,
        evaluation=evaluation,
        evidence=evidence,
        perturbed=perturbed,
        prevalence=shift.stated if shift else None,
        calibration=run.calibration,
        operating_point=shift.correct_point(point) if shift else point,
        history=run.history,
        epoch_chosen=training.schedule == "plateau" or training.unfreeze_from is not None,
        settings=format_config(name_files(run.config)),
        environment=run.environment,
        fine_tuned=_describe_fine_tuning(run),
        of_others=task.of_others,
    )


def _describe_fine_tuning(run: Run) -> FineTuned | None:
    """What was done to the network itself, if anything was."""
    training = run.config.training
    if training.unfreeze_from is None:
        return None
    kept = run.environment["fine_tuned_weights_sha256"] != run.environment["weights_sha256"]
    return FineTuned(training.unfreeze_from, training.unfrozen_learning_rate, kept)


def _write_medmnist_scores(folder: RunFolder, size: int, split: str, contents: ReportContents) -> None:
    """Writes MedMNIST's standard result file, in place of an older one."""
    figures = contents.evaluation.at_half.figures
    file = to_medmnist_name(
        split=split,
        auc=figures["auc"].value,
        accuracy=figures["accuracy"].value,
        run=to_part_of_name(contents.run),
        size=size,
    )
    for older in folder.path.glob(f"{contents.card.medmnist_name}_{split}_[[]AUC]*.csv"):
        older.unlink()
    folder.write_text(file, format_medmnist_scores(contents.scores))


def to_part_of_name(run: str) -> str:
    """A run's name as a part of that of a file: letters, digits, - and _."""
    return re.sub(r"[^\w-]+", "-", run).encode()[:NAME_BYTES].decode(errors="ignore")
