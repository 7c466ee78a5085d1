"""The settings that can be changed."""

import click

from pneumo_keras.cli.group import JSON, SET, print_json


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
