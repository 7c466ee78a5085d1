"""Images explained."""

import sys
from pathlib import Path

import click

from pneumo_keras.cli.group import JSON, print_json
from pneumo_keras.cli.predict import PATHS, RUN, check_found
from pneumo_keras.errors import DataError


@click.command()
@RUN
@PATHS
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for pictures and maps; must be new or empty.  [default: RUN/explanations]",
)
@JSON
def explain(run: Path, paths: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Shows which places of an image the score of the run in folder RUN comes from.

    PATH is an image (PNG, JPEG, TIFF, BMP, WebP, DICOM), a folder with all images that lie below it but
    hidden files, a pattern in quotes, or - for a list on stdin, one name a line.

    Each image gets a picture, NAME.png: the image, and beside it the same image with its map, red where it
    looks less normal than normal images do at the same place, blue where more so. The numbers are in
    NAME.npy, one for each pixel of the image as the classifier sees it: how far the log odds would lie
    above those of normal images, were all of the image like this place. Their mean is how far they do lie
    above. explanations.csv lists all images. In RUN/explanations, files of an earlier call are replaced.

    The map shows what the classifier summed up, not where the disease is. On synthetic images the
    reddest point of a run of `default` with pretrained stand-in weights lay on an opacity in 85 % of 222
    images (25 % by chance); nobody has measured that on patients. A research tool, not a medical device.

    \b
    pneumo-keras explain runs/one image.png
    pneumo-keras explain runs/one images/ --out maps
    """
    from pneumo_keras.config import find_cache
    from pneumo_keras.data.kinds import PassedOver
    from pneumo_keras.data.listing import list_files, read_names
    from pneumo_keras.runs.run import load_run
    from pneumo_keras.runtime.backend import check_backend, start_backend
    from pneumo_keras.storage.files import check_free

    check_backend("explain")
    loaded = load_run(run)
    if out:
        check_free(out, option="--out")
    others = PassedOver()
    names = list(list_files(paths, read_names(sys.stdin), others))  # before there are pictures among them
    check_found(len(names), paths, others)
    start_backend(find_cache())
    from pneumo_keras.recipes.explain import build_image_explainer, explain_files
    from pneumo_keras.storage.printable import to_amount, to_printable

    explainer, target = build_image_explainer(loaded), out or run / "explanations"
    explained = []
    for one in explain_files(explainer, names, target, may_replace=out is None):
        explained.append(one)
        scored, name = one.scored, to_printable(one.scored.path)
        if scored.probability is None:
            click.echo(f"{name}: {scored.warning}", err=True)
        elif not as_json:
            warning = f" ({scored.warning})" if scored.warning else ""
            score = f"score {scored.probability:.3f}, predicted {scored.prediction}{warning}"
            click.echo(f"{name}: {score}: {target / one.picture}")
    if as_json:
        print_json({"run": str(run), "out": str(target), "images": [one.to_row() for one in explained]})
    if failed := sum(one.scored.probability is None for one in explained):
        total = to_amount(len(explained), "file")
        raise DataError(f"{failed:,} of {total} could not be explained, see above.")
