"""A page on which a run scores and explains images, served until it is interrupted.

No image is kept, and nothing is fetched from other addresses. Needs starlette and uvicorn.
"""

import asyncio
import base64
import hashlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pneumo_keras.data.decoding import DecodedImage, Decoders
from pneumo_keras.data.kinds import Limits
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.recipes.explain import ImageExplainer, build_image_explainer
from pneumo_keras.reporting.explanations import CAVEAT, LEGEND, SHOWN_EDGE, paint_evidence, to_limit
from pneumo_keras.reporting.plots import encode_image, to_png
from pneumo_keras.runs.run import Run

log = logging.getLogger("pneumo_keras")

TEMPLATES = Path(__file__).with_name("templates")
EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED = 5, 256, 11
NOTICE = "They are synthetic: a program drew them."
DECODERS = 2  # processes, so that a slow file does not block the next one
CONNECTIONS = 64  # at once
UPLOADS = 8  # that are in memory at once
UPLOAD_SECONDS = 120.0  # until all of an upload must be received
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Evaluate = Callable[[bytes], Awaitable[dict[str, Any]]]
"""Content of an image's file -> its score and map, ready for JSON. Raises DataError."""


def serve_run(run: Run, *, host: str, port: int, max_bytes: int) -> None:
    """Serves the page of a finished run until the process is interrupted; port 0 takes a free one.

    Raises:
        RunError: The run is damaged, or the address is not available.
    """
    with _listen(host, port) as listener, open_server(run, host=host, max_bytes=max_bytes) as app:
        name = f"[{host}]" if ":" in host else host
        log.info("Open http://%s:%d/ in a browser. Ctrl-C stops it", name, listener.getsockname()[1])
        build_uvicorn(app).run(sockets=[listener])


def build_uvicorn(app: Starlette) -> uvicorn.Server:
    """The server of a page, which ends within a second or two whatever its clients do."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="critical",  # failures are logged by _explain
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
    )


@contextmanager
def open_server(run: Run, *, host: str, max_bytes: int) -> Iterator[Starlette]:
    """The page of a finished run with its programs compiled and its decoders started; see `serve_run`."""
    explainer = build_image_explainer(run)
    limits = Limits(bytes=max_bytes)
    with Decoders(explainer.preparation, shown=SHOWN_EDGE, workers=DECODERS, limits=limits) as decoders:
        service = Service(explainer, decoders)
        service.warm_up()
        drawn = PhantomImages(EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED).read(slice(None))
        yield build_server(
            service.evaluate,
            [to_png(image) for image in drawn],
            run=run.name,
            notice=NOTICE,
            max_bytes=max_bytes,
            hosts=list_names(host),
        )


class Service:
    """Scores and explains one image after the other."""

    def __init__(self, explainer: ImageExplainer, decoders: Decoders) -> None:
        self._explainer, self._decoders = explainer, decoders
        self._executor = ThreadPoolExecutor(1, "explain")

    async def evaluate(self, content: bytes) -> dict[str, Any]:
        """See `Evaluate`; pictures are `data:` URLs."""
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


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise RunError(
            f"--host and --port must name an address that is available. Received: {host}, {port} "
            f"({error.strerror or error})"
        ) from error


def build_server(
    evaluate: Evaluate,
    examples: Sequence[bytes],
    *,
    run: str,
    notice: str,
    max_bytes: int,
    hosts: Sequence[str],
) -> Starlette:
    """The page, with PNG files as examples and a notice on them, and the addresses that it requests.

    It may be requested by the names `hosts`, see `list_names`, or by any if there are none: under another
    name for this address, another site could read its answers.
    """
    page, policy = render_page(len(examples), run=run, notice=notice, max_bytes=max_bytes)
    uploads = asyncio.Semaphore(UPLOADS)

    async def show_page(request: Request) -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    async def show_example(request: Request) -> Response:
        index = request.path_params["index"]
        if index >= len(examples):
            raise HTTPException(404)
        return Response(examples[index], media_type="image/png")

    async def evaluate_image(request: Request) -> Response:
        try:
            async with uploads:
                async with asyncio.timeout(UPLOAD_SECONDS):
                    content = await _read_upload(request, max_bytes)
                return JSONResponse(await evaluate(content))
        except DataError as error:
            return _refuse(422, str(error))
        except TimeoutError:
            return _refuse(408, "the file came too slowly: send it again")
        except ClientDisconnect:  # the client is gone
            return Response(status_code=400)

    async def check_sender(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = _check_origin(request.headers, hosts) or await call_next(request)
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/examples/{index:int}.png", show_example),
            Route("/images", evaluate_image, methods=["POST"]),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=check_sender)],
        exception_handlers={HTTPException: _explain, Exception: _explain},
    )


async def _read_upload(request: Request, max_bytes: int) -> bytes:
    content = bytearray()
    length = request.headers.get("content-length", "0")
    too_large = DataError(f"the file has more than {max_bytes // 2**20:,} MB")
    if not length.isdecimal() or len(length) > 18 or int(length) > max_bytes:
        raise too_large
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise too_large
    return bytes(content)


def list_names(host: str) -> tuple[str, ...]:
    """Names by which a page that listens on an address may be requested; none for any."""
    name = _normalise(host)
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return (name,)
    if address.is_loopback:
        return ("localhost", "127.0.0.1", "::1", name)
    return () if address.is_unspecified else (name,)


def _check_origin(headers: Mapping[str, str], hosts: Sequence[str]) -> Response | None:
    """The refusal of a request for another host, or from a page of another site; None for any other."""
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        name = _normalise(urlsplit(f"//{host}").hostname or "")
        sender = urlsplit(origin or f"http://{host}")
    except ValueError:
        return _refuse(400, "Host and Origin must be names or addresses")
    if not name or (hosts and name not in hosts):
        return _refuse(400, "Unknown host")
    if sender.scheme not in ("http", "https") or sender.netloc.lower() != host.lower():
        return _refuse(403, "Unknown origin")
    return None


def _refuse(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status_code=status, headers=SECURITY_HEADERS)


def render_page(examples: int, *, run: str, notice: str, max_bytes: int) -> tuple[str, str]:
    """The page, and the policy that lets it run its script and fetch nothing from other addresses."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html.jinja").render(
        script=script, examples=examples, run=run, notice=notice, megabytes=max_bytes // 2**20
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "connect-src 'self'; "
        f"img-src 'self' data: blob:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    return page, policy


def _normalise(name: str) -> str:
    """A name in lower case, an address in its shortest form."""
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return name.lower()


async def _explain(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _refuse(error.status_code, error.detail)
    log.error("The page failed", exc_info=error)
    return _refuse(500, "the page failed: the log of its program has the reason")
