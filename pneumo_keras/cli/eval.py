"""Evaluation of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pneumo_keras.cli.group import JSON, MOVED, SPLIT, print_json

if TYPE_CHECKING:
    from pneumo_keras.evaluation.report_card import Evaluation
    from pneumo_keras.runs.folder import RunFolder


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@SPLIT
@MOVED
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="PREVALENCE",
    help="Correct scores and figures to this prevalence of pneumonia. No prediction changes.",
)
@click.option(
    "--perturb",
    is_flag=True,
    help="Evaluate the images perturbed, too: combined as [perturbation] in the settings says, and by kind "
    "and severity. Minutes: 96 passes of the split through the network.",
)
@click.option(
    "--data",
    "images",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE|FOLDER",
    help="Evaluate other labelled images: an npz file, a folder by class, or a CSV.",
)
@click.option("--positive", metavar="CLASS", help="With --data: the class that is pneumonia.")
@click.option("--name", metavar="NAME", help="With --data: the NAME of RUN/data/NAME.")
@JSON
def evaluate(
    run: Path,
    split: str,
    overrides: tuple[str, ...],
    prevalence: float | None,
    perturb: bool,
    images: Path | None,
    positive: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Evaluates the run in folder RUN on a split of its images.

    Writes scores, metrics, figures and report.html into the folder, and of PneumoniaMNIST's official
    images alone MedMNIST's standard result file.

    With --data it evaluates other images, of a folder without splits all of them, and writes the same
    into RUN/data/NAME, which compare takes for a run. Operating point and calibration stay the run's.
    Larger images are prepared as the training images were.

    A score is a probability among images like those of the training: the class weights, or the
    calibration, say at which prevalence of pneumonia. Where you know the prevalence among yours, state
    it. It is never learnt from the images that are evaluated.

    Where its own images were moved since, --set data.path=... says where they lie now: they must be the
    same.

    With --perturb the same images are also evaluated perturbed: all at once as [perturbation] says, with
    the paired change, and by kind in five severities, thirteen kinds of them MedMNIST-C's. Scores are in
    scores_<split>_perturbed.csv, figures in metrics_<split>_perturbed.json, a picture in
    figures/perturbations.png. Larger images (--data) are corrupted before they are prepared.

    \b
    pneumo-keras eval runs/one
    pneumo-keras eval runs/one --prevalence 0.1
    pneumo-keras eval runs/one --perturb
    pneumo-keras eval runs/one --set data.path=moved/chest_xray
    pneumo-keras eval runs/one --data clinic --positive infiltrate
    """
    if images is None and (positive or name):
        raise click.UsageError("--positive and --name go with --data.")
    if images and overrides:
        raise click.UsageError("--set says where the run's own images lie, and --data names others.")
    from pneumo_keras.config import find_cache, find_moved_data
    from pneumo_keras.runs.run import load_run
    from pneumo_keras.runtime.backend import check_backend, start_backend

    check_backend("eval")
    loaded = load_run(run)
    moved = find_moved_data(overrides)
    start_backend(find_cache())

    def tell(folder: "RunFolder", evaluation: "Evaluation") -> None:
        print_evaluation(folder.path, split, evaluation, as_json)

    if images is None:
        from pneumo_keras.recipes.evaluate import evaluate_run

        evaluate_run(loaded, split, prevalence, perturb=perturb, moved=moved, tell=tell)
    else:
        from pneumo_keras.recipes.other_images import OtherImages, evaluate_other_images

        other = OtherImages(images, positive=positive, name=name)
        evaluate_other_images(loaded, other, split, prevalence, perturb=perturb, tell=tell)


def print_evaluation(run: Path, split: str, evaluation: "Evaluation", as_json: bool) -> None:
    """Prints figures, as text or as one JSON document."""
    from pneumo_keras.reporting.evaluation_text import format_evaluation

    if as_json:
        print_json({"run": str(run), "split": split, **_to_document(evaluation)})
    else:
        click.echo(format_evaluation(evaluation, heading=f"{run}, split {split}"))


def _to_document(evaluation: "Evaluation") -> dict[str, Any]:
    from pneumo_keras.storage.documents import to_document

    document = {
        **to_document(evaluation.at_threshold),
        "at_0.5": to_document(evaluation.at_half),
        "members": {name: to_document(spread) for name, spread in evaluation.members.items()},
    }
    for name in ("out_of_distribution", "new_patients"):
        if (part := getattr(evaluation, name)) is not None:
            document[name] = to_document(part)
    if evaluation.perturbed:
        changes = {name: to_document(change) for name, change in evaluation.perturbed.changes.items()}
        of_perturbed = _to_document(evaluation.perturbed.evaluation)
        document["perturbed"] = {
            "combined": {"perturbation": evaluation.perturbed.ranges, **of_perturbed, "changes": changes},
            **to_document(evaluation.perturbed.robustness),
        }
    return document
