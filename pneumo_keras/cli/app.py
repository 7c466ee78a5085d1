"""A page to try a run on images of one's own."""

from pathlib import Path

import click

from pneumo_keras.cli.predict import RUN


@click.command()
@RUN
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Any other one lets other machines in: there is no password.",
)
@click.option(
    "--max-megabytes", type=click.IntRange(1, 256), default=64, show_default=True, help="Of an image's file."
)
def app(run: Path, port: int, host: str, max_megabytes: int) -> None:
    """Opens a page to try the run in folder RUN: drop an image, see score, prediction, warning and map.

    The page is served by this machine to this machine, until Ctrl-C. It needs no network, keeps nothing and
    sends nothing elsewhere. A research tool, not a medical device.

    \b
    pneumo-keras app runs/one
    """
    from pneumo_keras.config import find_cache
    from pneumo_keras.runs.run import load_run
    from pneumo_keras.runtime.backend import check_backend, check_packages, start_backend

    check_backend("app")
    check_packages("pneumo-keras app", ["starlette", "uvicorn"], extra="app")
    loaded = load_run(run)
    start_backend(find_cache())
    from pneumo_keras.app.service import serve_run

    serve_run(loaded, host=host, port=port, max_bytes=max_megabytes * 2**20)
