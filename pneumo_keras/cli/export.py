"""A run's classifier for other runtimes."""

from pathlib import Path

import click

from pneumo_keras.cli.group import JSON, print_json
from pneumo_keras.exports.forms import FORMS, check_form, choose_files


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(list(FORMS)), required=True, help="What is to run it.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A new file.  [default: RUN/exports/model.<ending>, in place of an older one]",
)
@JSON
def export(run: Path, form: str, out: Path | None, as_json: bool) -> None:
    """Writes the classifier of the run in folder RUN as a file that runs without Keras.

    All is inside: resizing images of any size, scaling, network, heads, calibration. Grey images (n,
    height, width, 1), 0..255, go in; the probability of pneumonia (n, 1) comes out.

    \b
    onnx       for ONNX Runtime, in any of its languages; OpenVINO reads it as well
    stablehlo  for jax.export.deserialize, on a CPU or NVIDIA GPU

    The file is then run by its own runtime on 64 synthetic images of several sizes. Where a
    probability is more than 1e-4 away from that of Keras, or its log odds more than 1e-2, nothing is
    kept. The JSON next to it says what its users must know: classes, input, preparation of an image,
    operating point, fingerprints.
    The warning of `predict` for an image that is out of distribution is not in the file.

    \b
    pneumo-keras export runs/one --format onnx
    pneumo-keras export runs/one --format stablehlo --out clinic/pneumonia.stablehlo
    """
    from pneumo_keras.config import find_cache
    from pneumo_keras.runs.run import load_run
    from pneumo_keras.runtime.backend import check_backend, start_backend

    check_backend("export")
    check_form(form)
    loaded = load_run(run)
    file, sidecar = choose_files(run, form, out)
    start_backend(find_cache())
    from pneumo_keras.recipes.export import export_run
    from pneumo_keras.storage.documents import to_document

    written = export_run(loaded, form, file, sidecar)
    compared = written.verification
    if as_json:
        print_json(
            {
                "run": str(run),
                "format": form,
                "files": [str(file)],
                "sidecar": str(sidecar),
                "bytes": written.bytes,
                "verification": to_document(compared),
            }
        )
        return
    click.echo(f"{file}, {written.bytes / 1e6:,.1f} MB")
    click.echo(
        f"{compared.runtime} scores {compared.images} images of {len(compared.sizes)} sizes as Keras does, "
        f"within {compared.largest_difference:.1e} (allowed: {compared.tolerance:.0e})"
    )
    click.echo(f"How to use it: {sidecar}")
