"""What is kept for later runs."""

import collections
from typing import Any

import click

from pneumo_keras.cli.group import JSON, print_json
from pneumo_keras.printable import to_amount, to_printable


@click.group()
def cache() -> None:
    """Shows or removes what is kept for later runs.

    The folder is the user's cache, or what the environment variable PNEUMO_KERAS_CACHE names.
    """


@cache.command("list")
@JSON
def list_(as_json: bool) -> None:
    """Lists the features that are kept, the ones used longest ago first: those go first, too."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.recipes.cache import list_features
    from pneumo_keras.reporting.tables import format_table

    features = list_features()
    if as_json:
        print_json({"folder": str(find_cache()), "features": features})
        return
    if features:
        click.echo(format_table([_to_cells(row) for row in features], header=HEADER, align="lrrllllll"))
    total = sum(row["size"] for row in features)
    click.echo(
        f"{to_amount(len(features), 'entry', 'entries')}, {total / 1e6:,.1f} MB of features in {find_cache()}"
    )


@cache.command()
@click.confirmation_option("--yes", prompt="Remove all features, prepared films and compiled programs?")
def clear() -> None:
    """Removes features, prepared films and compiled programs; all can be made again."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.recipes.cache import clear_cache

    clear_cache()
    click.echo(f"{find_cache()} is empty")


HEADER = ("used", "MB", "films", "film set", "tap", "image", "view", "engine", "device")


def _to_cells(row: dict[str, Any]) -> list[str]:
    about = collections.defaultdict(lambda: "?", row["about"])  # other versions may tell other things
    return [
        row["used"][:16].replace("T", " "),
        f"{row['size'] / 1e6:,.1f}",
        f"{row['films']:,} of {row['n']:,}",
        to_printable(row["title"]),
        *(
            to_printable(cell.format_map(about))
            for cell in ("{tap}", "{image_size} px", "{view}", "{engine} {precision}", "{device}")
        ),
    ]
