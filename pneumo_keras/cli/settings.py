"""Settings shown, and compared by cross-validation."""

import logging
from contextlib import nullcontext
from pathlib import Path

import click

from pneumo_keras.cli.group import CONFIG, JSON, SET, print_json
from pneumo_keras.runtime.invocation import to_command

log = logging.getLogger("pneumo_keras")


@click.group()
def config() -> None:
    """Shows the settings that can be changed."""


@config.command("list")
def list_() -> None:
    """Lists the named configurations, each with the first line of its file."""
    from pneumo_keras.config import find_named

    for name, path in find_named("configs").items():
        first = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        click.echo(f"{name:<12} {first}")


@config.command()
@click.argument("name", metavar="NAME|FILE")
@SET
@JSON
def show(name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Prints a configuration as TOML, with the meaning of every setting and what it may be.

    Each can be changed by --set, or in a copy of the file:

    \b
    pneumo-keras config show default > mine.toml
    pneumo-keras train --config mine.toml --set training.epochs=3
    """
    from pneumo_keras.config import describe_config, explain_config, load_config

    settings = load_config(name, overrides)
    if as_json:
        print_json(describe_config(settings))
    else:
        click.echo(explain_config(settings), nl=False)


@click.command()
@CONFIG
@SET
@click.option("--grid", required=True, metavar="NAME|FILE", help="A TOML file with a list for each setting.")
@click.option(
    "--folds", type=click.IntRange(2, 20), default=5, show_default=True, help="Of the cross-validation."
)
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
    """Compares settings by cross-validation.

    On training and validation images together; the test split is never opened.
    Every combination of the grid is fitted once without each fold and evaluated on it; images with the
    same pixels stay in one fold. Features come from the cache, and combinations that differ in
    learning rate and weight decay alone are fitted at once, so that hundreds take minutes. best.toml
    has the lowest mean of the log losses on images as they are and perturbed, as [perturbation] in the
    settings says; cheapest.toml takes the frozen network the least work among those within
    one standard error of the best. Augmentation that comes near the perturbation is favoured by that: it
    was trained on the like.

    \b
    A grid names settings as a configuration does, with a list of values for each:
      [model]
      feature_layers = [["mixed4"], ["mixed2", "mixed5"]]
      [training]
      learning_rate = [1e-4, 1e-3]

    \b
    pneumo-keras sweep --config demo --grid grid.toml --out sweeps/one
    pneumo-keras train --config sweeps/one/cheapest.toml
    """
    from pneumo_keras.config import find_cache, load_config
    from pneumo_keras.config.grid import load_grid
    from pneumo_keras.runtime.backend import check_backend, start_backend
    from pneumo_keras.storage.files import check_free, make_dated_folder

    check_backend("sweep")
    config, values = load_config(name, overrides), load_grid(grid)
    if out:
        check_free(out, option="--out")
    start_backend(find_cache())
    from pneumo_keras.recipes.sweep import sweep_settings
    from pneumo_keras.reporting.sweep import format_sweep

    new = nullcontext(out) if out else make_dated_folder(Path("sweeps"), Path(grid).stem, option="--out")
    with new as folder:
        ranked = sweep_settings(config, values, folder, folds=folds)
    log.info("Next: %s", to_command("train", "--config", folder / "cheapest.toml"))
    if as_json:
        rows = [candidate.to_row() for candidate in ranked]
        print_json({"folder": str(folder), "folds": folds, "combinations": rows})
    else:
        click.echo(format_sweep(ranked, heading=f"{folder}, {folds} folds"))
