"""Training."""

import contextlib
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pneumo_keras import BACKEND
from pneumo_keras.cli.eval import print_evaluation
from pneumo_keras.cli.group import CONFIG, JSON, SET
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
    from pneumo_keras.runtime.backend import start_backend
    from pneumo_keras.runtime.signals import Stopped
    from pneumo_keras.storage.files import make_dated_folder

    folder = RunFolder(run) if run else None
    if folder and resume and (folder.is_finished() or folder.is_begun() or not named):
        written = folder.path / "config.toml"
        base = str(written) if not named and written.is_file() else name
        asked = forget_place(load_config(base, overrides)) if named or overrides else None
        if folder.is_finished():
            evaluation = folder.load_evaluation(asked)
            folder.clear()
            log.info("%s is finished: nothing is left to do", folder.path)
            if group:
                group.check_same("task", None)
                group.shutdown()
            print_evaluation(folder.path, "val", evaluation, as_json)
            return
        config, paths = folder.load_unfinished(asked)
    else:
        config, resume = forget_place(load_config(name, overrides)), False
        paths = list_paths(config)
        if folder:
            folder.check_free()
    if group is None:  # otherwise it has been
        start_backend(find_cache())
    from pneumo_keras.recipes.train import train_run

    new = (
        contextlib.nullcontext(run)
        if run
        else make_dated_folder(Path("runs"), Path(name).stem, option="--run")
    )
    with new as path:
        try:
            evaluation = train_run(config, RunFolder(path), paths, resume=resume, group=group)
        except Stopped as stopped:
            alone = f"Go on with: {to_command('train', '--run', path, '--resume')}"
            stopped.next_step = _to_next_step(path) if group else alone
            raise
    log.info("Next: %s", to_command("eval", path))
    print_evaluation(path, "val", evaluation, as_json)
