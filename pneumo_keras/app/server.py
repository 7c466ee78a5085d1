"""The page and what it asks for: nothing kept, nothing fetched from elsewhere. Needs starlette."""

import asyncio
import base64
import hashlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pneumo_keras.errors import DataError

log = logging.getLogger("pneumo_keras")

TEMPLATES = Path(__file__).with_name("templates")
UPLOADS = 8  # that are in memory at once
UPLOAD_SECONDS = 120.0  # for all of an upload to come
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Evaluate = Callable[[bytes], Awaitable[dict[str, Any]]]


def build_server(
    evaluate: Evaluate,
    examples: Sequence[bytes],
    *,
    run: str,
    notice: str,
    max_bytes: int,
    hosts: Sequence[str],
) -> Starlette:
    """The page and what it asks for.

    Args:
        evaluate: What there is to say of an image, from all that its file holds; raises DataError.
        examples: Images as PNG files, offered to be tried.
        run: How the page names the run.
        notice: What the page says of its examples.
        max_bytes: Of a file.
        hosts: Names by which the page may be asked for, as `list_names` writes them; none for any. Under
            another name for this address, another site could read the page's answers.
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
                    content = await read_upload(request, max_bytes)
                return JSONResponse(await evaluate(content))
        except DataError as error:
            return refuse(422, str(error))
        except TimeoutError:
            return refuse(408, "the file came too slowly: send it again")
        except ClientDisconnect:  # nobody is there to be answered
            return Response(status_code=400)

    async def check_sender(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = refuse_strangers(request.headers, hosts) or await call_next(request)
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


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """All that a request brings.

    Raises:
        DataError: It is more than `max_bytes`.
        ClientDisconnect: The client is gone.
    """
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
    """Names by which a page that listens on an address may be asked for; none for any."""
    name = _to_plain(host)
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return (name,)
    if address.is_loopback:
        return ("localhost", "127.0.0.1", "::1", name)
    return () if address.is_unspecified else (name,)


def refuse_strangers(headers: Mapping[str, str], hosts: Sequence[str]) -> Response | None:
    """The refusal of a request for another host, or from a page of another site; None for any other."""
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        name = _to_plain(urlsplit(f"//{host}").hostname or "")
        sender = urlsplit(origin or f"http://{host}")
    except ValueError:
        return refuse(400, "Host and Origin must be names or addresses")
    if not name or (hosts and name not in hosts):
        return refuse(400, "Unknown host")
    if sender.scheme not in ("http", "https") or sender.netloc.lower() != host.lower():
        return refuse(403, "Unknown origin")
    return None


def refuse(status: int, reason: str) -> JSONResponse:
    """An answer that gives a reason, as the page reads it."""
    return JSONResponse({"error": reason}, status_code=status, headers=SECURITY_HEADERS)


def render_page(examples: int, *, run: str, notice: str, max_bytes: int) -> tuple[str, str]:
    """The page, and the policy that lets it run its own script and fetch nothing from elsewhere."""
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


def _to_plain(name: str) -> str:
    """A name in lower case, an address in its shortest form: two that mean the same are the same."""
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return name.lower()


async def _explain(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return refuse(error.status_code, error.detail)
    log.error("The page failed", exc_info=error)
    return refuse(500, "the page failed: its program says why where it was started")
