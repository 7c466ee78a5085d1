"""Evaluation of a run, and comparison of evaluated runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo_keras.cli.group import (
    JSON,
    PATH,
    PREVALENCE,
    RUN,
    SPLIT,
    option_out,
    print_result,
)

if TYPE_CHECKING:
    from pneumo_keras.evaluation.report_card import Evaluation
    from pneumo_keras.runs.folder import RunFolder
    from pneumo_keras.runs.run import Run


@click.command("eval")
@RUN
@SPLIT
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="data.path=PATH",
    help="New path of the run's images, if they were moved.",
)
@PREVALENCE
@click.option(
    "--perturb",
    is_flag=True,
    help="Also evaluate the images perturbed: all perturbations of the table [perturbation] at once, and "
    "each kind in five severities. Takes 96 passes of the images through the network.",
)
@click.option(
    "--data",
    "images",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE|FOLDER",
    help="Other labelled images: an npz file, a folder with one folder per class, or a CSV.",
)
@click.option("--positive", metavar="CLASS", help="With --data: name of the class that is pneumonia.")
@click.option("--name", metavar="NAME", help="With --data: name of the results, RUN/data/NAME.")
@JSON
def evaluate(
    run: "Run",
    split: str,
    overrides: tuple[str, ...],
    prevalence: float | None,
    perturb: bool,
    images: Path | None,
    positive: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Evaluates a run on a split of its images, or on other images.

    RUN is the folder of a run. Scores, metrics, plots and report.html are written into it, and for the
    official images of PneumoniaMNIST also MedMNIST's standard result file.

    With --data, other images are evaluated (all of them, if a folder has no splits). The results are in
    RUN/data/NAME, which compare accepts as a run. Threshold and calibration stay those of the run. Larger
    images are prepared as the training images were.

    A score is a probability at the prevalence of pneumonia that the class weights, or the calibration,
    assume. If you know the prevalence among your images, state it with --prevalence; it is never
    estimated from the images that are evaluated.

    With --perturb, thirteen of the kinds are those of MedMNIST-C. Scores are in
    scores_<split>_perturbed.csv, metrics in metrics_<split>_perturbed.json, plots in
    figures/perturbations.png.

    \b
    Examples:
      pneumo-keras eval runs/one
      pneumo-keras eval runs/one --prevalence 0.1
      pneumo-keras eval runs/one --perturb
      pneumo-keras eval runs/one --set data.path=moved/chest_xray
      pneumo-keras eval runs/one --data clinic --positive infiltrate
    """
    if images is None and (positive or name):
        raise click.UsageError("--positive and --name go with --data.")
    if images and overrides:
        raise click.UsageError("--set is for the run's own images, and --data for others: use one of them.")
    from pneumo_keras.config import find_moved_data
    from pneumo_keras.runtime.backend import import_sklearn

    moved = find_moved_data(overrides)
    import_sklearn()

    def show(folder: "RunFolder", evaluation: "Evaluation") -> None:
        print_evaluation(folder.path, split, evaluation, as_json=as_json)

    if images is None:
        from pneumo_keras.recipes.evaluate import evaluate_run

        evaluate_run(run, split, prevalence, perturb=perturb, moved=moved, show=show)
    else:
        from pneumo_keras.recipes.evaluate import evaluate_other_images

        options = {"positive": positive, "name": name, "perturb": perturb, "show": show}
        evaluate_other_images(run, images, split, prevalence, **options)


def print_evaluation(run: Path, split: str, evaluation: "Evaluation", *, as_json: bool) -> None:
    """Prints the metrics of a run on a split."""
    from pneumo_keras.reporting.evaluation_text import format_evaluation
    from pneumo_keras.storage.documents import to_document

    document = {"run": str(run), "split": split, **to_document(evaluation)}
    print_result(format_evaluation(evaluation, heading=f"{run}, split {split}"), document, as_json=as_json)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN RUN...")
@SPLIT
@option_out("FILE", "PNG file for the ROC curves of all runs; must be new.")
@JSON
def compare(runs: tuple[Path, ...], split: str, out: Path | None, as_json: bool) -> None:
    """Compares evaluated runs on the same images.

    Each RUN is the folder of a run that eval has evaluated, or RUN/data/NAME of eval --data. Each is
    compared with the first one. Images are paired, so a difference can be clear even where the intervals
    of the two runs overlap.

    \b
    Examples:
      pneumo-keras compare runs/one runs/two
      pneumo-keras compare runs/one runs/two runs/three --out roc.png
    """
    if len(runs) < 2:
        raise click.UsageError("Name two runs or more.")
    from pneumo_keras.runs.folder import RunFolder
    from pneumo_keras.storage.files import check_new

    folders = [RunFolder(run) for run in runs]
    for folder in folders:
        folder.check_evaluated()
    if out:
        check_new(out, option="--out", ending=".png")
    from pneumo_keras.recipes.compare import compare_runs
    from pneumo_keras.reporting.evaluation_text import (
        PAIRED_BY_PATH,
        describe_patients,
        format_differences,
    )
    from pneumo_keras.storage.documents import to_document

    rows, texts = [], []
    for one in compare_runs(folders[0], folders[1:], split, out):
        row = {
            "run": str(one.run),
            "changed": one.changed,
            "differences": {name: to_document(found) for name, found in one.differences.items()},
            "patients": to_document(one.patients) if one.patients else None,
            "paired_by_path": one.paired_by_path,
        }
        rows.append(row)
        cautions = [PAIRED_BY_PATH if one.paired_by_path else "", describe_patients(one.patients, one.n)]
        heading = f"{one.run} minus {runs[0]}, split {split}"
        text = format_differences(one.differences, heading=heading, changed=one.changed, cautions=cautions)
        texts.append(text)
    print_result("\n\n".join(texts), {"first": str(runs[0]), "split": split, "others": rows}, as_json=as_json)
