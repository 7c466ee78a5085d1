"""The classifier of a run, in other runtimes and in a browser."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo_keras.cli.group import JSON, RUN, option_out, print_result, start_keras
from pneumo_keras.exports.forms import FORMS, check_form, choose_files

if TYPE_CHECKING:
    from pneumo_keras.runs.run import Run


@click.command()
@RUN
@click.option(
    "--format", "form", type=click.Choice(list(FORMS)), required=True, help="Format of the file, see above."
)
@option_out("FILE", "A new file.  [default: RUN/exports/model.<ending>, which is replaced]")
@JSON
def export(run: "Run", form: str, out: Path | None, as_json: bool) -> None:
    """Writes the classifier of the run in folder RUN as a file that runs without Keras.

    It contains everything: resizing images of any size, scaling, network, heads, calibration. Grey images
    (n, height, width, 1), 0..255, go in; the probability of pneumonia (n, 1) comes out. The warning of
    predict for an image that is out of distribution is not in the file.

    \b
    onnx       for ONNX Runtime in any language, and for OpenVINO
    stablehlo  for jax.export.deserialize, on a CPU or NVIDIA GPU

    The file is then run by its own runtime on 64 synthetic images of several sizes. Where a
    probability differs from that of Keras by more than 1e-4, or its log odds by more than 1e-2, nothing
    is kept. The JSON next to it defines its use: classes, input, preparation of an image,
    operating point, fingerprints.

    \b
    pneumo-keras export runs/one --format onnx
    pneumo-keras export runs/one --format stablehlo --out new.stablehlo
    """
    check_form(form)
    file, sidecar = choose_files(run.folder.path, form, out)
    start_keras()
    from pneumo_keras.recipes.export import export_run
    from pneumo_keras.storage.documents import to_document

    compared, size = export_run(run, form, file, sidecar), file.stat().st_size
    text = (
        f"{file}, {size / 1e6:,.1f} MB\n"
        f"{compared.runtime} scores {compared.images} images of {len(compared.sizes)} sizes as Keras does, "
        f"within {compared.largest_difference:.1e} (allowed: {compared.tolerance:.0e})\n"
        f"How to use it: {sidecar}"
    )
    document = {
        "run": str(run.folder.path),
        "format": form,
        "files": [str(file)],
        "sidecar": str(sidecar),
        "bytes": size,
        "verification": to_document(compared),
    }
    print_result(text, document, as_json=as_json)


@click.command()
@RUN
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0: any free one."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Any other lets other machines connect: there is no password.",
)
@click.option(
    "--max-megabytes",
    type=click.IntRange(1, 256),
    default=64,
    show_default=True,
    help="Largest file of an image.",
)
def app(run: "Run", port: int, host: str, max_megabytes: int) -> None:
    """Opens a page to try the run in folder RUN: drop an image, see score, prediction, warning and map.

    The page is served by this machine to this machine, until Ctrl-C. It needs no network, keeps nothing and
    sends nothing elsewhere. A research tool, not a medical device.

    \b
    pneumo-keras app runs/one
    """
    start_keras()
    from pneumo_keras.app.server import serve_run

    serve_run(run, host=host, port=port, max_bytes=max_megabytes * 2**20)
