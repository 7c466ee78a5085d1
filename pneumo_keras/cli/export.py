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
@click.option("--format", "form", type=click.Choice(list(FORMS)), required=True, help="Format of the file.")
@option_out("FILE", "File to write; must be new.  [default: RUN/exports/model.<format>, which is replaced]")
@JSON
def export(run: "Run", form: str, out: Path | None, as_json: bool) -> None:
    """Writes the classifier of a run as a file for use without Keras.

    RUN is the folder of a run. The file contains the whole classifier: resizing, scaling, network, heads,
    calibration. Its input are grey images (n, height, width, 1) from 0 to 255, its output is the
    probability of pneumonia (n, 1). It gives no warning for images that are out of distribution.

    \b
    onnx       for ONNX Runtime in any language, and for OpenVINO
    stablehlo  for jax.export.deserialize, on a CPU or NVIDIA GPU

    The runtime of the file then scores 64 synthetic images of several sizes. Where a probability differs
    from that of Keras by more than 1e-4, or its log odds by more than 1e-2, the file is not kept. The JSON
    file next to it describes its use: classes, input, preparation of an image, operating point,
    fingerprints.

    \b
    Examples:
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
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    metavar="N",
    help="Port; 0 means any free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. With another one, other machines can connect: there is no password.",
)
@click.option(
    "--max-megabytes",
    type=click.IntRange(1, 256),
    default=64,
    show_default=True,
    metavar="N",
    help="Largest size of an image file.",
)
def app(run: "Run", port: int, host: str, max_megabytes: int) -> None:
    """Opens a page in the browser to try a run.

    RUN is the folder of a run. Drop an image on the page to see score, prediction, warning and map. The
    page is served by this machine until Ctrl-C. It needs no network, keeps nothing and sends nothing
    elsewhere. A research tool, not a medical device.

    \b
    Examples:
      pneumo-keras app runs/one
      pneumo-keras app runs/one --port 0
    """
    from pneumo_keras.app.server import serve_run

    serve_run(run, host=host, port=port, max_bytes=max_megabytes * 2**20)
