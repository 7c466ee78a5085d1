"""This machine measured."""

import click

from pneumo_keras.cli.group import CONFIG, JSON, SET, print_json


@click.command()
@CONFIG
@SET
@JSON
def bench(name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Measures the engines of this machine.

    Each runs the frozen network on the same images: images a second, the deviation of the features
    from stock Keras, and the share of what a plain matrix product reaches.

    \b
    Without any download:
      pneumo-keras bench --config demo
    """
    from pneumo_keras.config import find_cache, load_config
    from pneumo_keras.runtime.backend import check_backend, start_backend

    check_backend("bench")
    config = load_config(name, overrides)
    start_backend(find_cache())
    from pneumo_keras.recipes.bench import bench_machine
    from pneumo_keras.reporting.bench import format_bench

    measured = bench_machine(config)
    if as_json:
        print_json(measured.to_dict())
    else:
        click.echo(format_bench(measured))
