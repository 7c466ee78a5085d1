"""The server of the page: nothing kept, nothing fetched from elsewhere. Needs starlette."""

import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pneumo_keras.app.middleware import Middleware, refuse
from pneumo_keras.app.uploads import Uploads, answer_unless_gone
from pneumo_keras.errors import DataError

TEMPLATES = Path(__file__).with_name("templates")

Evaluate = Callable[[bytes], Awaitable[dict[str, Any]]]


def build_server(
    evaluate: Evaluate,
    examples: Sequence[bytes],
    *,
    run: str,
    notice: str,
    max_bytes: int,
    hosts: Sequence[str],
) -> Middleware:
    """The page and what it asks for.

    Args:
        evaluate: What is said of an image, from all that its file holds; raises DataError.
        examples: Images as PNG files, offered to be tried.
        run: How the page names the run.
        notice: What the page says of its examples.
        max_bytes: Of a file.
        hosts: Names by which the page may be asked for, as `to_plain` writes them; none for any.
    """
    page, policy = render_page(len(examples), run=run, notice=notice, max_bytes=max_bytes)
    pictures, uploads = (
        {f"{index}.png": example for index, example in enumerate(examples)},
        Uploads(max_bytes),
    )

    async def show_page(request: Request) -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    async def show_example(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in pictures:
            raise HTTPException(404)
        return Response(pictures[name], media_type="image/png")

    async def evaluate_image(request: Request) -> Response:
        try:
            async with uploads.read(request) as content:
                return JSONResponse(await answer_unless_gone(request, evaluate(content)))
        except DataError as error:
            return refuse(422, str(error))
        except ClientDisconnect:  # nobody is there to be answered
            return Response(status_code=400)

    app = Starlette(
        routes=[
            Route("/", show_page),
            Route("/examples/{name}", show_example),
            Route("/images", evaluate_image, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _explain, Exception: _explain},
    )
    app.router.redirect_slashes = False
    return Middleware(app, hosts=hosts)


async def _explain(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return refuse(error.status_code, error.detail, error.headers)
    return refuse(500, "the page failed: its program says why where it was started")


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
