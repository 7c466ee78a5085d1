"""Runs: train, eval, compare."""

import contextlib
import logging
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pneumo_keras import BACKEND
from pneumo_keras.cli.group import CONFIG, JSON, MOVED, SET, SPLIT, print_json
from pneumo_keras.errors import BackendError, PneumoError
from pneumo_keras.runtime.invocation import to_command

if TYPE_CHECKING:
    from pneumo_keras.config import Config
    from pneumo_keras.distributed.process_group import ProcessGroup
    from pneumo_keras.evaluation.report_card import Evaluation

log = logging.getLogger("pneumo_keras")


@click.command()
@CONFIG
@SET
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the run; must be new.  [default: runs/<config>-<timestamp>]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --run where it was stopped.")
@JSON
@click.pass_context
def train(
    ctx: click.Context, name: str, overrides: tuple[str, ...], run: Path | None, resume: bool, as_json: bool
) -> None:
    """Trains a classifier and writes the folder of the run.

    The figures printed are those of the validation split; the test split is for eval alone.

    A training that is stopped, with Ctrl-C, by a signal or by a loss of power, leaves a run that --resume
    goes on with, to the same bytes as if nothing had happened: its settings are in the folder. With
    --config, --resume also begins a run where there is none yet, so that a job that may be stopped is the
    same command every time.

    \b
    pneumo-keras train --config demo
    pneumo-keras train --set data.path=pneumoniamnist.npz --set seed=1 --run runs/one
    pneumo-keras train --set data.source=folder --set data.path=chest_xray --run runs/own
    pneumo-keras train --run runs/one --resume
    """
    if resume and not run:
        raise click.UsageError("--resume goes with --run.")
    from pneumo_keras.distributed.launcher import is_worker, launch
    from pneumo_keras.runtime.backend import check_backend

    check_backend("train")
    named = ctx.get_parameter_source("name") is not ParameterSource.DEFAULT
    distributed = _find_distributed(name, overrides, run if resume and not named else None)
    if distributed is None:
        _train(name, overrides, run, resume, as_json, named=named)
    elif not is_worker():
        if BACKEND != "jax":
            raise BackendError(f"compute.processes needs KERAS_BACKEND=jax. Received: {BACKEND}")
        raise SystemExit(launch(ctx.obj, next_step=_to_next_step(run)))
    else:
        group = _join_group(distributed)
        with group.explain_loss():
            if group.rank:
                from pneumo_keras.config import forget_place
                from pneumo_keras.recipes.train import join_fit

                join_fit(forget_place(distributed), group)
            else:
                _train(name, overrides, run, resume, as_json, named=named, group=group)


def _find_distributed(name: str, overrides: tuple[str, ...], run: Path | None) -> "Config | None":
    """The settings of a training that several processes share, those of a run if named; else None."""
    from pneumo_keras.config import load_config

    written = run / "config.toml" if run else None
    with contextlib.suppress(PneumoError):  # whoever reads them next says so
        config = load_config(str(written) if written and written.is_file() else name, overrides)
        return None if config.compute.processes == 1 else config
    return None


def _join_group(config: "Config") -> "ProcessGroup":
    """Starts the backend together with all other processes, of which the first one alone logs."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.distributed.process_group import initialize
    from pneumo_keras.runtime.backend import start_backend

    compute = config.compute
    log.setLevel(logging.WARNING if compute.rank != 0 else logging.INFO)
    start_backend(find_cache())
    group = initialize(compute.processes, compute.coordinator, compute.rank)
    log.setLevel(logging.WARNING if group.rank else logging.INFO)
    log.info("%d processes train together; this is the first", group.count)
    return group


def _to_next_step(run: Path | None) -> str:
    """How to go on with a distributed training; only its first process knows a folder that is not named."""
    folder = shlex.quote(str(run)) if run else "RUN"
    return f"Start all of them again, with --run {folder} --resume, to go on after the last checkpoint."


def _train(
    name: str,
    overrides: tuple[str, ...],
    run: Path | None,
    resume: bool,
    as_json: bool,
    *,
    named: bool,
    group: "ProcessGroup | None" = None,
) -> None:
    from pneumo_keras.config import find_cache, forget_place, list_paths, load_config
    from pneumo_keras.runs.folder import RunFolder
    from pneumo_keras.runs.unfinished import load_stored_evaluation, load_unfinished
    from pneumo_keras.runtime.backend import start_backend
    from pneumo_keras.runtime.signals import Stopped
    from pneumo_keras.storage.files import make_dated_folder

    folder = RunFolder(run) if run else None
    if folder and resume and (folder.is_finished() or folder.is_begun() or not named):
        written = folder.path / "config.toml"
        base = str(written) if not named and written.is_file() else name
        asked = forget_place(load_config(base, overrides)) if named or overrides else None
        if folder.is_finished():
            evaluation = load_stored_evaluation(folder, "val", asked)
            folder.clear()
            log.info("%s is finished: nothing is left to do", folder.path)
            if group:
                group.check_same("task", None)
                group.shutdown()
            _print(folder.path, "val", evaluation, as_json)
            return
        config, paths = load_unfinished(folder, asked)
    else:
        config, resume = forget_place(load_config(name, overrides)), False
        paths = list_paths(config)
        if folder:
            folder.check_free()
    if group is None:  # otherwise it has been
        start_backend(find_cache())
    from pneumo_keras.recipes.train import train_run

    new = nullcontext(run) if run else make_dated_folder(Path("runs"), Path(name).stem, option="--run")
    with new as path:
        try:
            evaluation = train_run(config, RunFolder(path), paths, resume=resume, group=group)
        except Stopped as stopped:
            alone = f"Go on with: {to_command('train', '--run', path, '--resume')}"
            stopped.next_step = _to_next_step(path) if group else alone
            raise
    log.info("Next: %s", to_command("eval", path))
    _print(path, "val", evaluation, as_json)


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@SPLIT
@MOVED
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Correct the scores for images of which this share shows pneumonia. No call changes.",
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
@click.option("--name", metavar="NAME", help="With --data: what the images are called in RUN/data/NAME.")
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
    calibration, say which share of them shows pneumonia. Where you know the share among yours, state
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
    from pneumo_keras.runs.folder import RunFolder
    from pneumo_keras.runtime.backend import check_backend, start_backend

    check_backend("eval")
    folder = RunFolder(run)
    folder.check_finished()
    moved = find_moved_data(overrides)
    start_backend(find_cache())

    def tell(evaluated: RunFolder, evaluation: "Evaluation") -> None:
        _print(evaluated.path, split, evaluation, as_json)

    if images is None:
        from pneumo_keras.recipes.evaluate import evaluate_run

        evaluate_run(folder, split, prevalence, perturb=perturb, moved=moved, tell=tell)
    else:
        from pneumo_keras.recipes.other_images import OtherImages, evaluate_other_images

        other = OtherImages(images, positive=positive, name=name)
        evaluate_other_images(folder, other, split, prevalence, perturb=perturb, tell=tell)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@SPLIT
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also draw the ROC curves of all runs there, as PNG; must be new.",
)
@JSON
def compare(runs: tuple[Path, ...], split: str, out: Path | None, as_json: bool) -> None:
    """Compares evaluated runs on the same images.

    Each is compared with the first one. Images are paired, so that differences show that two separate
    intervals would hide. RUN/data/NAME, which eval --data writes, is a run here.

    \b
    pneumo-keras compare runs/reference runs/one runs/two --out roc.png
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
        describe_short_intervals,
        format_differences,
    )
    from pneumo_keras.storage.documents import to_document

    found = compare_runs(folders[0], folders[1:], split, out)
    if as_json:
        rows = [
            {
                "run": str(one.run),
                "changed": one.changed,
                "differences": {name: to_document(figure) for name, figure in one.differences.items()},
                "short_intervals": one.short_intervals,
                "patients": to_document(one.patients) if one.patients else None,
                "paired_by_path": one.paired_by_path,
            }
            for one in found
        ]
        print_json({"first": str(runs[0]), "split": split, "others": rows})
        return
    texts = [
        format_differences(
            one.differences,
            heading=f"{one.run} minus {runs[0]}, split {split}",
            changed=one.changed,
            cautions=[
                PAIRED_BY_PATH if one.paired_by_path else "",
                describe_patients(one.patients, one.counts.n),
                describe_short_intervals(one.counts, one.short_intervals),
            ],
        )
        for one in found
    ]
    click.echo("\n\n".join(texts))


def _print(run: Path, split: str, evaluation: "Evaluation", as_json: bool) -> None:
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
