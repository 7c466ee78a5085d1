"""The server of the page: nothing kept, nothing fetched from elsewhere. Needs starlette."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pneumo_keras.errors import DataError

AT_ONCE = 4  # films that are read and judged side by side: others wait
TEMPLATES = Path(__file__).with_name("templates")

Judge = Callable[[bytes], Awaitable[dict[str, Any]]]


def build_server(
    judge: Judge, examples: Sequence[bytes], *, run: str, notice: str, max_bytes: int, hosts: Sequence[str]
) -> Starlette:
    """The page and what it asks for.

    Args:
        judge: What is said of a film, from all that its file holds; raises DataError.
        examples: Films as PNG files, offered to be tried.
        run: How the page names the run.
        notice: What the page says of its examples.
        max_bytes: Of a file.
        hosts: Names by which the page may be asked for; none for any.
    """
    page, policy = render_page(len(examples), run=run, notice=notice, max_bytes=max_bytes)
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    reading = asyncio.Semaphore(AT_ONCE)

    async def show_page(request: Request) -> Response:
        check_sender(request, hosts)
        return HTMLResponse(page, headers=headers)

    async def show_example(request: Request) -> Response:
        check_sender(request, hosts)
        index = request.path_params["index"]
        if index >= len(examples):
            raise HTTPException(404)
        return Response(examples[index], media_type="image/png", headers=headers)

    async def judge_film(request: Request) -> Response:
        check_sender(request, hosts)
        try:
            async with reading:
                return JSONResponse(await judge(await _read(request, max_bytes)), headers=headers)
        except DataError as error:
            return JSONResponse({"error": str(error)}, status_code=422, headers=headers)
        except ClientDisconnect:  # nobody is there to be answered
            return Response(status_code=400)

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/examples/{index:int}.png", show_example),
            Route("/films", judge_film, methods=["POST"]),
        ]
    )


def check_sender(request: Request, hosts: Sequence[str]) -> None:
    """Lets in who asks for this page by its own name, and no page of another site.

    Raises:
        HTTPException: It is somebody else.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if hosts and urlsplit(f"//{host}").hostname not in hosts:
        raise HTTPException(400, "Unknown host")
    if origin is not None and urlsplit(origin).netloc != host:
        raise HTTPException(403, "Unknown origin")


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


async def _read(request: Request, max_bytes: int) -> bytes:
    """All that was sent, unless it is too much."""
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise DataError(f"the file has more than {max_bytes // 2**20:,} MB")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise DataError(f"the file has more than {max_bytes // 2**20:,} MB")
    return bytes(content)
