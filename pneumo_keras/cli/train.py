"""Training, the settings it takes, and their comparison by cross-validation."""

import contextlib
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pneumo_keras import BACKEND
from pneumo_keras.cli.evaluate import print_evaluation
from pneumo_keras.cli.group import (
    CONFIG,
    JSON,
    PATH,
    SET,
    complete_named,
    option_out,
    print_result,
    start_keras,
)
from pneumo_keras.errors import BackendError, PneumoError
from pneumo_keras.runtime.invocation import to_command

if TYPE_CHECKING:
    from pneumo_keras.config import Config
    from pneumo_keras.distributed.process_group import ProcessGroup

log = logging.getLogger("pneumo_keras")


@click.command()
@CONFIG
@SET
@click.option(
    "--run",
    type=PATH,
    metavar="DIR",
    help="Folder for the run; must be new.  [default: runs/<config>-<time>]",
)
@click.option("--resume", is_flag=True, help="Continue the run in --run after an interruption.")
@JSON
@click.pass_context
def train(
    ctx: click.Context, name: str, overrides: tuple[str, ...], run: Path | None, resume: bool, as_json: bool
) -> None:
    """Trains a classifier and writes the folder of the run.

    The figures printed are those of the validation images; the test images are read by eval.

    A training that was interrupted, by Ctrl-C, a signal or a power failure, continues with --resume, and
    the result has the same bytes as without the interruption. Its settings are read from the folder. With
    --config, --resume also starts a run that does not exist yet: a job queue may repeat one command.

    \b
    Examples:
      pneumo-keras train --config demo
      pneumo-keras train --set data.path=pneumoniamnist.npz --run runs/one
      pneumo-keras train --set data.source=folder --set data.path=chest_xray
      pneumo-keras train --run runs/one --resume
    """
    if resume and not run:
        raise click.UsageError("--resume goes with --run.")
    from pneumo_keras.distributed.launcher import is_worker, launch
    from pneumo_keras.runtime.backend import check_backend

    check_backend("train")
    named = ctx.get_parameter_source("name") is not ParameterSource.DEFAULT
    if resume and not named and run and (run / "config.toml").is_file():
        name = str(run / "config.toml")
    distributed = _find_distributed(name, overrides)
    if distributed is None:
        _train(name, overrides, run, as_json, resume=resume, named=named)
    elif not is_worker():
        if BACKEND != "jax":
            raise BackendError(f"compute.processes needs KERAS_BACKEND=jax. Received: {BACKEND}")
        raise SystemExit(launch(ctx.obj, next_step=_to_next_step(run)))
    else:
        group = _join_group(distributed)
        with group.explain_loss():
            if group.rank:
                from pneumo_keras.config import forget_process
                from pneumo_keras.recipes.train import join_fit

                join_fit(forget_process(distributed), group)
            else:
                _train(name, overrides, run, as_json, resume=resume, named=named, group=group)


def _find_distributed(name: str, overrides: tuple[str, ...]) -> "Config | None":
    """The settings of a training that several processes share; None of any other."""
    from pneumo_keras.config import load_config

    with contextlib.suppress(PneumoError):  # raised again where they are read next
        config = load_config(name, overrides)
        return None if config.compute.processes == 1 else config
    return None


def _join_group(config: "Config") -> "ProcessGroup":
    """Starts the backend together with all other processes, of which the first one alone logs."""
    from pneumo_keras.distributed.process_group import initialize

    compute = config.compute
    log.setLevel(logging.WARNING if compute.rank != 0 else logging.INFO)
    start_keras()
    group = initialize(compute.processes, compute.coordinator, compute.rank)
    log.setLevel(logging.WARNING if group.rank else logging.INFO)
    log.info("%d processes train together; this is the first", group.count)
    return group


def _to_next_step(run: Path | None) -> str:
    """How to continue a distributed training; only its first process has a folder that is not named."""
    folder = shlex.quote(str(run)) if run else "RUN"
    return f"Start all of them again, with --run {folder} --resume, to continue after the last checkpoint."


def _train(
    name: str,
    overrides: tuple[str, ...],
    run: Path | None,
    as_json: bool,
    *,
    resume: bool,
    named: bool,
    group: "ProcessGroup | None" = None,
) -> None:
    from pneumo_keras.config import forget_process, list_paths, load_config
    from pneumo_keras.runs.folder import RunFolder
    from pneumo_keras.runtime.signals import Stopped
    from pneumo_keras.storage.files import make_dated_folder

    folder = RunFolder(run) if run else None
    if folder and resume and (folder.is_finished() or folder.is_begun() or not named):
        asked = forget_process(load_config(name, overrides)) if named or overrides else None
        if folder.is_finished():
            evaluation = folder.load_evaluation(asked)
            folder.clear()
            log.info("%s is finished: nothing is left to do", folder.path)
            if group:
                group.check_same("task", None)
                group.shutdown()
            print_evaluation(folder.path, "val", evaluation, as_json=as_json)
            return
        config, paths = folder.load_unfinished(asked)
    else:
        config, resume = forget_process(load_config(name, overrides)), False
        paths = list_paths(config)
        if folder:
            folder.check_free()
    if group is None:
        start_keras()
    from pneumo_keras.recipes.train import train_run

    dated = make_dated_folder(Path("runs"), Path(name).stem, option="--run")
    with contextlib.nullcontext(run) if run else dated as path:
        try:
            evaluation = train_run(config, RunFolder(path), paths, resume=resume, group=group)
        except Stopped as stopped:
            alone = f"Continue with: {to_command('train', '--run', path, '--resume')}"
            stopped.next_step = _to_next_step(path) if group else alone
            raise
    print_evaluation(path, "val", evaluation, as_json=as_json)
    log.info("Next: %s", to_command("eval", path))


@click.command()
@CONFIG
@SET
@click.option(
    "--grid",
    required=True,
    metavar="NAME|FILE",
    shell_complete=complete_named("configs/grids"),
    help="Grid: demo, features, heads, larger, or a TOML file with lists of values.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, 20),
    default=5,
    show_default=True,
    metavar="N",
    help="Folds of the cross-validation.",
)
@option_out("DIR", "Folder for table, plot and best settings; must be new.  [default: sweeps/<grid>-<time>]")
@JSON
def sweep(
    name: str, overrides: tuple[str, ...], grid: str, folds: int, out: Path | None, as_json: bool
) -> None:
    """Compares settings by cross-validation.

    Each combination of the grid is fitted once for each fold of the training and validation images,
    without the images of the fold, and evaluated on them. Images of one patient, and images with the same
    pixels, are in one fold. The test images are not read. Features come from the cache.

    Combinations are ranked by the mean of two log losses: of the images as they are, and perturbed as
    the table [perturbation] says. best.toml has the lowest mean. cheapest.toml has the least work for the
    frozen network among those within one standard error of the best. Augmentation that resembles the
    perturbation has an advantage in this comparison.

    \b
    A grid names settings as a configuration does, with a list of values for each:
      [model]
      feature_layers = [["mixed4"], ["mixed2", "mixed5"]]
      [training]
      learning_rate = [1e-4, 1e-3]

    \b
    Examples:
      pneumo-keras sweep --config demo --grid demo --out sweeps/one
      pneumo-keras train --config sweeps/one/cheapest.toml
    """
    from pneumo_keras.config import load_config
    from pneumo_keras.config.grid import load_grid
    from pneumo_keras.runtime.backend import check_backend
    from pneumo_keras.storage.files import check_free, make_dated_folder

    check_backend("sweep")
    config, values = load_config(name, overrides), load_grid(grid)
    if out:
        check_free(out, option="--out")
    start_keras()
    from pneumo_keras.recipes.sweep import sweep_settings
    from pneumo_keras.reporting.sweep import format_sweep

    dated = make_dated_folder(Path("sweeps"), Path(grid).stem, option="--out")
    with contextlib.nullcontext(out) if out else dated as folder:
        ranked = sweep_settings(config, values, folder, folds=folds)
    rows = [candidate.to_row() for candidate in ranked]
    document = {"folder": str(folder), "folds": folds, "combinations": rows}
    print_result(format_sweep(ranked, heading=f"{folder}, {folds} folds"), document, as_json=as_json)
    log.info("Next: %s", to_command("train", "--config", folder / "cheapest.toml"))


@click.group()
def config() -> None:
    """Shows configurations and settings.

    \b
    Examples:
      pneumo-keras config list
      pneumo-keras config show demo
    """


@config.command("list")
def list_() -> None:
    """Lists the named configurations.

    \b
    Examples:
      pneumo-keras config list
      pneumo-keras config show accurate
    """
    from pneumo_keras.config import find_named

    for name, path in find_named("configs").items():
        first = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        click.echo(f"{name:<12} {first}")


@config.command()
@click.argument("name", metavar="[NAME|FILE]", default="default", shell_complete=complete_named("configs"))
@SET
@JSON
def show(name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Prints a configuration with meaning and range of each setting.

    It is TOML: edit a copy of it, or change single settings with --set.

    \b
    Examples:
      pneumo-keras config show > mine.toml
      pneumo-keras train --config mine.toml --set training.epochs=3
    """
    from pneumo_keras.config import describe_config, explain_config, load_config

    settings = load_config(name, overrides)
    print_result(explain_config(settings).rstrip("\n"), describe_config(settings), as_json=as_json)
