"""What is kept for later runs."""

import collections
from typing import Any

import click

from pneumo_keras.cli.group import JSON, print_json
from pneumo_keras.storage.printable import to_printable


@click.group()
def cache() -> None:
    """Shows or removes what is kept for later runs.

    The folder is the user's cache, or what the environment variable PNEUMO_KERAS_CACHE names.
    """


@cache.command("list")
@JSON
def list_(as_json: bool) -> None:
    """Lists what is kept: all features, the ones used longest ago first, and how much of each kind.

    Of features and of prepared images what was used longest ago goes where either takes more than
    compute.cache_gigabytes; of compiled programs where they take more than 2 GB.
    """
    from pneumo_keras.config import find_cache
    from pneumo_keras.recipes.cache import list_features, list_kinds
    from pneumo_keras.reporting.formats import format_table

    features, kinds = list_features(), list_kinds()
    if as_json:
        print_json({"folder": str(find_cache()), "features": features, "kinds": kinds})
        return
    if features:
        click.echo(format_table([_to_cells(row) for row in features], header=HEADER, align="lrrllllll"))
        click.echo()
    rows = [
        [kind["kind"], f"{kind['number']:,}", f"{kind['size'] / 1e6:,.1f}", _to_minute(kind["used"] or "-")]
        for kind in kinds
    ]
    click.echo(format_table(rows, header=("kept", "number", "MB", "last used"), align="lrrl"))
    click.echo(f"All of it lies in {find_cache()}")


@cache.command()
@click.confirmation_option("--yes", prompt="Remove all features, prepared images and compiled programs?")
def clear() -> None:
    """Removes features, prepared images, hashes and compiled programs; all can be made again."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.recipes.cache import clear_cache

    clear_cache()
    click.echo(f"{find_cache()} is empty")


HEADER = ("used", "MB", "images", "image set", "feature_layer", "image", "view", "engine", "device")


def _to_minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _to_cells(row: dict[str, Any]) -> list[str]:
    about = collections.defaultdict(lambda: "?", row["about"])  # other versions may tell other things
    return [
        _to_minute(row["used"]),
        f"{row['size'] / 1e6:,.1f}",
        f"{row['images']:,} of {row['n']:,}",
        to_printable(row["title"]),
        *(
            to_printable(cell.format_map(about))
            for cell in ("{feature layer}", "{image_size} px", "{view}", "{engine} {precision}", "{device}")
        ),
    ]
