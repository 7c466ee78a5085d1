"""The command line: parses, calls a recipe, prints. Needs no Keras before a command runs."""

import json
import logging
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import pneumo_keras
from pneumo_keras.data.films import count_classes
from pneumo_keras.errors import PneumoError

if TYPE_CHECKING:
    from pneumo_keras.evaluation.report_card import Judgement

log = logging.getLogger("pneumo_keras")

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

CONFIG = click.option(
    "--config",
    "name",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="A named configuration (see: pneumo-keras config list) or a TOML file.",
)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting that wins over the file, e.g. training.epochs=3. Repeatable.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class PneumoGroup(click.Group):
    """Turns what the user can mend into one line and exit status 1; Ctrl-C into 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PneumoError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            raise SystemExit(130) from None


@click.group(cls=PneumoGroup, context_settings=CONTEXT)
@click.version_option(pneumo_keras.__version__, prog_name="pneumo-keras")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings on stderr.")
def main(quiet: bool) -> None:
    """Trains and judges a pneumonia classifier for chest X-rays.

    A frozen InceptionV3 looks at each film once; a small head learns from what it saw.
    The backend is JAX, or what the environment variable KERAS_BACKEND names (tensorflow, torch;
    openvino for eval). A research tool, not a medical device.

    \b
    Try it without any download, on synthetic films:
      pneumo-keras train --config demo --run runs/demo
      pneumo-keras eval runs/demo
    """
    _start_logging(quiet)


@main.command()
@CONFIG
@SET
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the run; must be new.  [default: runs/<config>-<timestamp>]",
)
@JSON
def train(name: str, overrides: tuple[str, ...], run: Path | None, as_json: bool) -> None:
    """Trains a classifier and writes the folder of the run.

    The figures printed are those of the validation split; the test split is for eval alone.

    \b
    pneumo-keras train --config demo
    pneumo-keras train --set data.path=pneumoniamnist.npz --set seed=1 --run runs/one
    """
    from pneumo_keras.backend import check_backend, start_backend
    from pneumo_keras.config import find_cache, load_config

    check_backend("train")
    config = load_config(name, overrides)
    path = run or Path("runs") / f"{Path(name).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    start_backend(find_cache())
    from pneumo_keras.recipes.train import train_run
    from pneumo_keras.runs.folder import RunFolder

    judgement = train_run(config, RunFolder(path))
    log.info("Next: pneumo-keras eval %s", path)
    _print(path, "val", judgement, as_json)


@main.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Films to judge on.",
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Correct the scores for films of which this share shows pneumonia. No call changes.",
)
@JSON
def eval_(run: Path, split: str, prevalence: float | None, as_json: bool) -> None:
    """Judges the run in folder RUN on a split of its films.

    Writes scores, metrics, figures and report.html into the folder, and MedMNIST's standard result
    file.

    A score is a probability among films like those of the training: the class weights, or the
    calibration, say which share of them shows pneumonia. Where you know the share among yours, state
    it. It is never learnt from the films that are judged.

    \b
    pneumo-keras eval runs/one
    pneumo-keras eval runs/one --prevalence 0.1
    """
    from pneumo_keras.backend import check_backend, start_backend
    from pneumo_keras.config import find_cache

    check_backend("eval")
    start_backend(find_cache())
    from pneumo_keras.recipes.evaluate import evaluate_run
    from pneumo_keras.runs.folder import RunFolder

    judgement = evaluate_run(RunFolder(run), split, prevalence)
    _print(run, split, judgement, as_json, prevalence)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also draw the ROC curves of all runs there, as PNG.",
)
@JSON
def compare(runs: tuple[Path, ...], split: str, out: Path | None, as_json: bool) -> None:
    """Compares evaluated runs on the same films, each with the first one.

    Films are paired, so that differences show that two separate intervals would hide.

    \b
    pneumo-keras compare runs/reference runs/one runs/two --out roc.png
    """
    if len(runs) < 2:
        raise click.UsageError("Name two runs or more.")
    from pneumo_keras.backend import start_backend
    from pneumo_keras.config import find_cache

    start_backend(find_cache())
    from pneumo_keras.recipes.compare import compare_runs, find_changes
    from pneumo_keras.reporting.table import format_differences
    from pneumo_keras.runs.folder import RunFolder

    first, *others = runs
    found = compare_runs(RunFolder(first), [RunFolder(other) for other in others], split, out)
    if as_json:
        rows = [
            {"run": str(other), "differences": {name: one.to_dict() for name, one in differences.items()}}
            for other, differences in zip(others, found, strict=True)
        ]
        click.echo(json.dumps({"first": str(first), "split": split, "others": rows}, indent=2))
        return
    click.echo(
        "\n\n".join(
            format_differences(
                differences,
                heading=f"{other} minus {first}, split {split}",
                changed=find_changes(RunFolder(first), RunFolder(other)),
            )
            for other, differences in zip(others, found, strict=True)
        )
    )


@main.command()
@CONFIG
@SET
@click.option("--grid", required=True, metavar="NAME|FILE", help="A TOML file with a list for each setting.")
@click.option("--folds", type=click.IntRange(2, 20), default=5, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for table, picture and best settings; must be new.  [default: sweeps/<grid>-<timestamp>]",
)
@JSON
def sweep(
    name: str, overrides: tuple[str, ...], grid: str, folds: int, out: Path | None, as_json: bool
) -> None:
    """Compares settings by cross-validation on training and validation films.

    Every combination of the grid is fitted once without each fold and judged on it; films with the
    same pixels stay in one fold. Features come from the cache, and combinations that differ in
    learning rate and weight decay alone are fitted at once, so that hundreds take minutes. The test
    split is never opened. best.toml has the lowest log loss, simplest.toml the fewest weights within
    one standard error of it.

    \b
    A grid names settings as a configuration does, with a list of values for each:
      [model]
      taps = [["mixed4"], ["mixed2", "mixed5"]]
      [training]
      learning_rate = [1e-4, 1e-3]

    \b
    pneumo-keras sweep --config demo --grid grid.toml --out sweeps/one
    pneumo-keras train --config sweeps/one/simplest.toml
    """
    from pneumo_keras.backend import check_backend, start_backend
    from pneumo_keras.config import find_cache, load_config
    from pneumo_keras.grid import load_grid

    check_backend("sweep")
    config, values = load_config(name, overrides), load_grid(grid)
    folder = out or Path("sweeps") / f"{Path(grid).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    start_backend(find_cache())
    from pneumo_keras.recipes.sweep import sweep_settings
    from pneumo_keras.reporting.sweep import format_sweep

    ranked = sweep_settings(config, values, folder, folds=folds)
    log.info("Next: pneumo-keras train --config %s", folder / "simplest.toml")
    if as_json:
        rows = [candidate.to_row() for candidate in ranked]
        click.echo(json.dumps({"folder": str(folder), "folds": folds, "combinations": rows}, indent=2))
    else:
        click.echo(format_sweep(ranked, heading=f"{folder}, {folds} folds"))


@main.command()
@CONFIG
@SET
@click.option("--job", is_flag=True, help="Also time train and eval, cold and warm: minutes.")
@JSON
def bench(name: str, overrides: tuple[str, ...], job: bool, as_json: bool) -> None:
    """Measures how fast this machine runs the frozen network, engine by engine.

    Images a second, the deviation of the features from stock Keras, and the share of what a plain
    matrix product reaches. Without any download: --config demo.
    """
    from pneumo_keras.backend import check_backend, start_backend
    from pneumo_keras.config import find_cache, load_config

    check_backend("bench")
    config = load_config(name, overrides)
    start_backend(find_cache())
    from pneumo_keras.bench.bench import format_bench
    from pneumo_keras.recipes.bench import bench_machine

    arguments = ["--config", name, *(part for override in overrides for part in ("--set", override))]
    figures = bench_machine(config, arguments if job else None)
    click.echo(json.dumps(figures.to_dict(), indent=2) if as_json else format_bench(figures))


@main.group()
def config() -> None:
    """Shows the settings that can be changed."""


@config.command("list")
def config_list() -> None:
    """Lists the named configurations, each with the first line of its file."""
    from pneumo_keras.config import find_named

    for name, path in find_named("configs").items():
        first = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        click.echo(f"{name:<12} {first}")


@config.command("show")
@click.argument("name", metavar="NAME|FILE")
@SET
def config_show(name: str, overrides: tuple[str, ...]) -> None:
    """Prints a configuration with every setting resolved, as TOML."""
    from pneumo_keras.config import format_config, load_config

    click.echo(format_config(load_config(name, overrides)), nl=False)


@main.group()
def data() -> None:
    """Gets and makes films."""


@data.command("prepare")
@click.option("--size", type=click.Choice(["28", "64", "128", "224"]), default="28", show_default=True)
@click.option("--path", type=click.Path(path_type=Path), help="Your own copy of the npz file.")
def data_prepare(size: str, path: Path | None) -> None:
    """Fetches PneumoniaMNIST, checks it and prepares it for training."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.data.pneumonia_mnist import load_pneumonia_mnist

    films = load_pneumonia_mnist(("train", "val"), size=int(size), path=path, cache=find_cache())
    for split, part in films.items():
        normal, pneumonia = count_classes(part.labels)
        click.echo(f"{split:<6} {len(part):>6,} films: {normal:,} normal, {pneumonia:,} pneumonia")


@data.command("audit")
@CONFIG
@SET
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write audit.json, audit.txt and audit.png there.",
)
@JSON
def data_audit(name: str, overrides: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Looks for repeats, look-alikes, wrong labels and shifts in the films before a training.

    Opens every split. Nothing is changed or removed.

    pneumo-keras data audit --set data.path=pneumoniamnist.npz
    """
    from pneumo_keras.backend import start_backend
    from pneumo_keras.config import find_cache, load_config

    config = load_config(name, overrides)
    start_backend(find_cache())
    from pneumo_keras.recipes.films import audit_data, name_films
    from pneumo_keras.reporting.audit_plots import write_audit
    from pneumo_keras.reporting.audit_text import format_audit, to_findings

    films, audit = audit_data(config)
    heading = name_films(config)
    document = {"films": heading, **audit.to_dict(), "findings": to_findings(audit)}
    if out:
        write_audit(out, films, audit, document, title=heading)
    click.echo(json.dumps(document, indent=2) if as_json else format_audit(audit, heading=heading))


@data.command("phantom")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--size", type=click.IntRange(16), default=28, show_default=True, help="Edge in pixels.")
@click.option("--train", "n_train", type=click.IntRange(2), default=640, show_default=True)
@click.option("--val", "n_val", type=click.IntRange(2), default=160, show_default=True)
@click.option("--test", "n_test", type=click.IntRange(2), default=400, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def data_phantom(file: Path, size: int, n_train: int, n_val: int, n_test: int, seed: int) -> None:
    """Writes synthetic chest films to FILE, an npz with PneumoniaMNIST's arrays.

    Train on it with --set data.path=FILE.
    """
    from pneumo_keras.data.phantom import build_phantom_films
    from pneumo_keras.data.pneumonia_mnist.archive import save_archive

    counts = {"train": n_train, "val": n_val, "test": n_test}
    splits = {
        split: build_phantom_films(n, size=size, seed=seed + index)
        for index, (split, n) in enumerate(counts.items())
    }
    save_archive(file, splits)
    click.echo(f"{file}: {sum(counts.values()):,} synthetic films, {size} px")


@main.group()
def cache() -> None:
    """Shows or removes what is kept for later runs (PNEUMO_KERAS_CACHE names its folder)."""


@cache.command("list")
@JSON
def cache_list(as_json: bool) -> None:
    """Lists the features that are kept, the ones used longest ago first."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.features.store import list_entries

    entries = list_entries(find_cache() / "features")
    if as_json:
        rows = [{**asdict(entry), "folder": str(entry.folder)} for entry in entries]
        click.echo(json.dumps({"folder": str(find_cache()), "features": rows}, indent=2))
        return
    for entry in entries:
        about = entry.about
        click.echo(
            f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(entry.used))}  {entry.size / 1e6:8.1f} MB  "
            f"{entry.films:>7,} of {about['n']:,} films  {about['tap']}, {about['image_size']} px, "
            f"view {about['view']}, {about['engine']} {about['precision']} on {about['device']}"
        )
    total = sum(entry.size for entry in entries)
    click.echo(f"{len(entries)} entries, {total / 1e6:,.1f} MB of features in {find_cache()}")


@cache.command("clear")
@click.confirmation_option("--yes", prompt="Remove all features, prepared films and compiled programs?")
def cache_clear() -> None:
    """Removes features, prepared films and compiled programs; all can be made again."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.features.store import list_entries, remove_entry

    folder = find_cache()
    kept = [entry for entry in list_entries(folder / "features") if not remove_entry(entry.folder)]
    for part in ("datasets", "jax"):
        shutil.rmtree(folder / part, ignore_errors=True)
    if kept:
        raise PneumoError(f"{len(kept)} entries stay: another process is writing them. Try again later.")
    click.echo(f"{folder} is empty")


def _print(
    run: Path, split: str, judgement: "Judgement", as_json: bool, prevalence: float | None = None
) -> None:
    from pneumo_keras.reporting.table import format_judgement

    if as_json:
        document = {"run": str(run), "split": split, **judgement.to_dict()}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(format_judgement(judgement, heading=f"{run}, split {split}", prevalence=prevalence))


def _start_logging(quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
