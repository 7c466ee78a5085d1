"""A run that evaluates images for a page, served until somebody ends it. Needs uvicorn."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette

from pneumo_keras.app.server import build_server, list_names
from pneumo_keras.data.decoding import DecodedImage, Decoders
from pneumo_keras.data.kinds import Limits
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.recipes.explain import ImageExplainer, build_image_explainer
from pneumo_keras.reporting.explanations import CAVEAT, LEGEND, SHOWN_EDGE, paint_evidence, to_limit
from pneumo_keras.reporting.plots import encode_image, to_png
from pneumo_keras.runs.run import Run

log = logging.getLogger("pneumo_keras")

EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED = 5, 256, 11
NOTICE = "They are synthetic: a program drew them."
DECODERS = 2  # processes: one that is busy for long keeps nobody waiting
CONNECTIONS = 64  # at once


def serve_run(run: Run, *, host: str, port: int, max_bytes: int) -> None:
    """Serves the page of a finished run until the process is interrupted.

    Args:
        run: All of it.
        host: Address to listen on.
        port: To listen on; 0 takes a free one.
        max_bytes: Of an image's file.

    Raises:
        RunError: The run is damaged, or the address cannot be had.
    """
    with _listen(host, port) as listener, open_server(run, host=host, max_bytes=max_bytes) as app:
        name = f"[{host}]" if ":" in host else host
        log.info("Open http://%s:%d/ in a browser. Ctrl-C ends it", name, listener.getsockname()[1])
        build_uvicorn(app).run(sockets=[listener])


def build_uvicorn(app: Starlette) -> uvicorn.Server:
    """The server of a page, which ends within a second or two whatever its clients do."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="critical",  # failures of the page are logged where they are answered
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
    )


@contextmanager
def open_server(run: Run, *, host: str, max_bytes: int) -> Iterator[Starlette]:
    """The page of a finished run, ready to evaluate, and the processes that decode; see `serve_run`."""
    explainer = build_image_explainer(run)
    with Decoders(
        explainer.preparation, shown=SHOWN_EDGE, workers=DECODERS, limits=Limits(bytes=max_bytes)
    ) as decoders:
        service = Service(explainer, decoders)
        service.warm_up()
        yield build_server(
            service.evaluate,
            draw_examples(),
            run=run.name,
            notice=NOTICE,
            max_bytes=max_bytes,
            hosts=list_names(host),
        )


class Service:
    """A run that evaluates one image after the other."""

    def __init__(self, explainer: ImageExplainer, decoders: Decoders) -> None:
        self._explainer, self._decoders = explainer, decoders
        self._executor = ThreadPoolExecutor(1, "explain")

    async def evaluate(self, content: bytes) -> dict[str, Any]:
        """What there is to say of the image of a file, ready for JSON; pictures as `data:` addresses.

        Raises:
            DataError: There is no image in it. Says why.
        """
        image = await asyncio.wrap_future(self._decoders.submit(content))
        if image.image is None:
            raise DataError(image.reason)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._describe, image)

    def warm_up(self) -> None:
        """Compiles all programs, so that the first image does not wait for them."""
        image = PhantomImages(2, self._explainer.preparation.size, EXAMPLE_SEED).read(slice(0, 1))[0]
        self._describe(DecodedImage("", image, shape=image.shape, shown=image))

    def _describe(self, image: DecodedImage) -> dict[str, Any]:
        one = self._explainer.explain(image)
        scored, evidence = one.scored, one.explanation.evidence
        limit = to_limit([evidence])
        return {
            "probability": scored.probability,
            "prediction": scored.prediction,
            "threshold": scored.threshold,
            "warning": scored.warning,
            "data_size": self._explainer.preparation.size,
            "image": encode_image(one.shown),
            "map": encode_image(paint_evidence(one.shown, evidence, limit=limit, edge=SHOWN_EDGE)),
            "limit": limit,
            "legend": " ".join(LEGEND.split()),
            "caveat": CAVEAT,
        }


def draw_examples() -> list[bytes]:
    """Phantom images to try, as PNG files."""
    images = PhantomImages(EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED).read(slice(None))
    return [to_png(image) for image in images]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise RunError(
            f"--host and --port must name an address that can be had. Received: {host}, {port} "
            f"({error.strerror or error})"
        ) from error
