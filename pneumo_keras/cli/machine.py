"""This machine: what is kept on it for later runs, and how fast it is."""

import collections
import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from pneumo_keras.cli.group import CONFIG, JSON, SET, print_result, start_keras
from pneumo_keras.errors import RunError
from pneumo_keras.storage.printable import to_printable

if TYPE_CHECKING:
    from pneumo_keras.features.store import StoredEntry

HEADER = ("used", "MB", "images", "image set", "feature layer", "image", "view", "engine", "device")
CELLS = "{feature_layer}", "{image_size} px", "{view}", "{engine} {precision}", "{device}"


@click.command()
@CONFIG
@SET
@JSON
def bench(name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Measures the speed of the engines on this machine.

    Each engine runs the frozen network on the same images. The table has images per second, the deviation
    of the features from those of stock Keras, and the speed relative to a plain matrix product.

    \b
    Examples:
      pneumo-keras bench
      pneumo-keras bench --config demo  # needs no download
    """
    from pneumo_keras.config import load_config
    from pneumo_keras.runtime.backend import check_backend

    check_backend("bench")
    config = load_config(name, overrides)
    start_keras()
    from pneumo_keras.recipes.bench import bench_machine
    from pneumo_keras.reporting.bench import format_bench

    measured = bench_machine(config)
    print_result(format_bench(measured), measured.to_dict(), as_json=as_json)


@click.group()
def cache() -> None:
    """Shows or removes what is kept for later commands.

    The folder is the cache of the user, or the one that the environment variable PNEUMO_KERAS_CACHE names.

    \b
    Examples:
      pneumo-keras cache list
      pneumo-keras cache clear
    """


@cache.command("list")
@JSON
def list_(as_json: bool) -> None:
    """Lists what is kept and how much space it takes.

    Features are listed one by one, the least recently used first. Where features or prepared images take
    more than compute.cache_gigabytes, or compiled programs more than 2 GB, the least recently used are
    removed.

    \b
    Examples:
      pneumo-keras cache list
      pneumo-keras cache list --json
    """
    from pneumo_keras.config import find_cache
    from pneumo_keras.features.store import list_entries
    from pneumo_keras.reporting.formats import format_table
    from pneumo_keras.storage.cache import KINDS

    folder = find_cache()
    features, kinds, rows = list_entries(folder), [], []
    for kind in KINDS:
        items = kind.list_items(folder).values()
        size = sum(item.size for item in items)
        used = _to_time(max(item.used for item in items)) if items else None
        path = str(folder / kind.folder)
        kinds.append({"kind": kind.title, "folder": path, "number": len(items), "size": size, "used": used})
        rows.append([kind.title, f"{len(items):,}", f"{size / 1e6:,.1f}", _to_minute(used or "-")])
    texts = [format_table(rows, header=("kept", "number", "MB", "last used"), align="lrrl")]
    if features:
        cells = [_to_cells(entry) for entry in features]
        texts.insert(0, f"{format_table(cells, header=HEADER, align='lrrllllll')}\n")
    listed = [
        {**dataclasses.asdict(entry), "folder": str(entry.folder), "used": _to_time(entry.used)}
        for entry in features
    ]
    document = {"folder": str(folder), "features": listed, "kinds": kinds}
    print_result("\n".join([*texts, f"All of it is in {folder}"]), document, as_json=as_json)


@cache.command()
@click.confirmation_option(
    "--yes",
    prompt="Remove all features, prepared images and compiled programs?",
    help="Remove without asking.",
)
def clear() -> None:
    """Removes features, prepared images, hashes and compiled programs.

    All of them can be computed again. Runs are not touched.

    \b
    Examples:
      pneumo-keras cache clear
      pneumo-keras cache clear --yes
    """
    from pneumo_keras.config import find_cache
    from pneumo_keras.storage.cache import KINDS

    for kind in KINDS:
        if not kind.clear(find_cache()):
            raise RunError(f"{find_cache() / kind.folder} cannot be removed. Remove it yourself.")
    click.echo(f"{find_cache()} is empty")


def _to_time(seconds: float) -> str:
    """In local time; that of a file may be out of range."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "unknown"


def _to_minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _to_cells(entry: "StoredEntry") -> list[str]:
    about = collections.defaultdict(lambda: "?", entry.about)  # other versions may record other things
    return [
        _to_minute(_to_time(entry.used)),
        f"{entry.size / 1e6:,.1f}",
        f"{entry.images:,} of {entry.n:,}",
        to_printable(entry.title),
        *(to_printable(cell.format_map(about)) for cell in CELLS),
    ]
