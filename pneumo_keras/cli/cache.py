"""What is kept for later runs."""

import collections
import dataclasses
from datetime import UTC, datetime
from typing import Any

import click

from pneumo_keras.cli.group import JSON, print_json
from pneumo_keras.errors import RunError
from pneumo_keras.storage.printable import to_printable

HEADER = ("used", "MB", "images", "image set", "feature layer", "image", "view", "engine", "device")
CELLS = "{feature_layer}", "{image_size} px", "{view}", "{engine} {precision}", "{device}"


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
    from pneumo_keras.features.store import list_entries
    from pneumo_keras.reporting.formats import format_table
    from pneumo_keras.storage.cache import KINDS

    folder = find_cache()
    features, kinds = list_entries(folder), []
    for kind in KINDS:
        items = kind.list_items(folder).values()
        used = max((item.used for item in items), default=None)
        kinds.append(
            {
                "kind": kind.title,
                "folder": str(folder / kind.folder),
                "number": len(items),
                "size": sum(item.size for item in items),
                "used": None if used is None else _to_time(used),
            }
        )
    if as_json:
        listed = [
            {**dataclasses.asdict(entry), "folder": str(entry.folder), "used": _to_time(entry.used)}
            for entry in features
        ]
        print_json({"folder": str(folder), "features": listed, "kinds": kinds})
        return
    if features:
        click.echo(format_table([_to_cells(entry) for entry in features], header=HEADER, align="lrrllllll"))
        click.echo()
    rows = [
        [kind["kind"], f"{kind['number']:,}", f"{kind['size'] / 1e6:,.1f}", _to_minute(kind["used"] or "-")]
        for kind in kinds
    ]
    click.echo(format_table(rows, header=("kept", "number", "MB", "last used"), align="lrrl"))
    click.echo(f"All of it lies in {folder}")


@cache.command()
@click.confirmation_option("--yes", prompt="Remove all features, prepared images and compiled programs?")
def clear() -> None:
    """Removes features, prepared images, hashes and compiled programs; all can be made again."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.storage.cache import KINDS

    for kind in KINDS:
        if not kind.clear(find_cache()):
            raise RunError(f"{find_cache() / kind.folder} cannot be removed. Remove it yourself.")
    click.echo(f"{find_cache()} is empty")


def _to_time(seconds: float) -> str:
    """In local time; that of a file may be beyond all years."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "unknown"


def _to_minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _to_cells(entry: Any) -> list[str]:
    about = collections.defaultdict(lambda: "?", entry.about)  # other versions may tell other things
    return [
        _to_minute(_to_time(entry.used)),
        f"{entry.size / 1e6:,.1f}",
        f"{entry.images:,} of {entry.n:,}",
        to_printable(entry.title),
        *(to_printable(cell.format_map(about)) for cell in CELLS),
    ]
