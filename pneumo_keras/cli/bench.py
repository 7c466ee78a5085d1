"""This machine measured, and the maps of a run."""

from pathlib import Path

import click
from click.core import ParameterSource

from pneumo_keras.cli.group import CONFIG, JSON, SET, print_json


@click.command()
@CONFIG
@SET
@click.option(
    "--maps",
    "run",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Measure the maps that explain draws of this run instead.",
)
@JSON
@click.pass_context
def bench(ctx: click.Context, name: str, overrides: tuple[str, ...], run: Path | None, as_json: bool) -> None:
    """Measures the engines of this machine.

    Each runs the frozen network on the same images: images a second, the deviation of the features
    from stock Keras, and the share of what a plain matrix product reaches.

    With --maps: how much the log odds of validation images fall when the tenth of an image where its map is
    highest is replaced by an average normal image, and the same for other tenths; for a run on phantom
    images also how often the highest point lies on an opacity. There, --set takes data.path alone: where the
    images of the run lie now, if they were moved.

    \b
    Without any download:
      pneumo-keras bench --config demo
    """
    from pneumo_keras.config import find_cache, load_config
    from pneumo_keras.runtime.backend import check_backend, start_backend

    check_backend("bench")
    if run:
        if ctx.get_parameter_source("name") is not ParameterSource.DEFAULT:
            raise click.UsageError("--maps measures a run with its own settings: leave --config out.")
        _bench_maps(run, overrides, as_json)
        return
    config = load_config(name, overrides)
    start_backend(find_cache())
    from pneumo_keras.recipes.bench import bench_machine
    from pneumo_keras.reporting.bench import format_bench

    measured = bench_machine(config)
    if as_json:
        print_json(measured.to_dict())
    else:
        click.echo(format_bench(measured))


def _bench_maps(run: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    from pneumo_keras.config import find_cache, find_moved_data
    from pneumo_keras.runs.run import load_run
    from pneumo_keras.runtime.backend import start_backend

    loaded = load_run(run)
    moved = find_moved_data(overrides)
    start_backend(find_cache())
    from pneumo_keras.recipes.bench_maps import measure_maps
    from pneumo_keras.reporting.bench import format_map_quality
    from pneumo_keras.storage.documents import to_document

    measured = measure_maps(loaded, moved)
    if as_json:
        print_json(to_document(measured))
    else:
        click.echo(format_map_quality(measured.images, measured.deletion, measured.pointing))
