"""The commands that fetch, audit and draw images."""

from pathlib import Path

import click

from pneumo_keras.cli.group import CONFIG, JSON, PATH, SET, option_out, print_result
from pneumo_keras.storage.printable import to_amount

IMAGES = click.IntRange(2, 100_000)


@click.group()
def data() -> None:
    """Fetches, audits and generates images. Needs no Keras.

    \b
    Examples:
      pneumo-keras data prepare
      pneumo-keras data audit --config demo
      pneumo-keras data phantom images.npz
    """


@data.command()
@click.option(
    "--size",
    type=click.Choice(["28", "64", "128", "224"]),
    default="28",
    show_default=True,
    help="Height and width in pixels.",
)
@click.option(
    "--path", type=PATH, metavar="FILE", help="Your own copy of the npz file, instead of a download."
)
def prepare(size: str, path: Path | None) -> None:
    """Fetches PneumoniaMNIST, checks it and prepares it for training.

    train does the same where it is needed.

    \b
    Examples:
      pneumo-keras data prepare
      pneumo-keras data prepare --size 64 --path pneumoniamnist_64.npz
    """
    from pneumo_keras.data.images import count_classes
    from pneumo_keras.recipes.images import prepare_images

    for split in prepare_images(size=int(size), path=path).values():
        normal, pneumonia = count_classes(split.images.labels)
        total = f"{split.name:<6} {to_amount(normal + pneumonia, 'image'):>12}"
        click.echo(f"{total}: {normal:,} normal, {pneumonia:,} pneumonia")


@data.command()
@CONFIG
@SET
@option_out("DIR", "Folder for audit.json, audit.txt and audit.png; must be new or empty.")
@JSON
def audit(name: str, overrides: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Looks for copies, wrong labels and differences between splits.

    All splits are read, the test images too. Nothing is changed or removed.

    \b
    Examples:
      pneumo-keras data audit --config demo
      pneumo-keras data audit --set data.path=pneumoniamnist.npz --out audit
      pneumo-keras data audit --set data.source=folder --set data.path=chest_xray
    """
    from pneumo_keras.config import load_config, resolve_paths
    from pneumo_keras.storage.files import check_free

    config = load_config(name, overrides)
    if out:
        check_free(out, option="--out")
    from pneumo_keras.arrays import SPLITS
    from pneumo_keras.audit.audit import audit_images
    from pneumo_keras.recipes.images import open_data
    from pneumo_keras.reporting.audit import format_audit, to_findings, write_audit
    from pneumo_keras.storage.documents import to_document

    images = open_data(resolve_paths(config))
    splits = {split: images.open_split(split) for split in SPLITS}
    names = {split: images.name_images(split) for split in SPLITS}
    found = audit_images(splits, names)
    title = images.card.title
    document = {"images": title, **to_document(found), "findings": to_findings(found)}
    if out:
        write_audit(out, splits, found, document, names=names, title=title)
    print_result(format_audit(found, title=title), document, as_json=as_json)


@data.command()
@click.argument("file", type=PATH)
@click.option(
    "--size",
    type=click.IntRange(16, 1024),
    default=28,
    show_default=True,
    metavar="N",
    help="Height and width in pixels.",
)
@click.option(
    "--train", "n_train", type=IMAGES, default=640, show_default=True, metavar="N", help="Training images."
)
@click.option(
    "--val", "n_val", type=IMAGES, default=160, show_default=True, metavar="N", help="Validation images."
)
@click.option(
    "--test", "n_test", type=IMAGES, default=400, show_default=True, metavar="N", help="Test images."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Random seed."
)
def phantom(file: Path, size: int, n_train: int, n_val: int, n_test: int, seed: int) -> None:
    """Writes synthetic chest images to an npz file.

    FILE must be new. Its arrays are those of PneumoniaMNIST.

    \b
    Examples:
      pneumo-keras data phantom images.npz
      pneumo-keras train --set data.path=images.npz
    """
    from pneumo_keras.data.phantom import build_phantom_splits
    from pneumo_keras.data.pneumonia_mnist.archive import save_archive
    from pneumo_keras.storage.files import check_new

    check_new(file, option="FILE")
    counts = (n_train, n_val, n_test)
    save_archive(file, build_phantom_splits(counts, size=size, seed=seed))
    click.echo(f"{file}: {to_amount(sum(counts), 'synthetic image')}, {size} px")
