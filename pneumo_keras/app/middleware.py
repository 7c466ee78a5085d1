"""What all requests pass before the page's routes see them, and all answers after."""

import asyncio
import ipaddress
import re
from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# RFC 9110, 7.2 and RFC 3986, 3.2.2, of which only what a browser sends
AUTHORITY = r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,255})(?::[0-9]{0,5})?"
HOST = re.compile(AUTHORITY)
ORIGIN = re.compile(f"[a-z][a-z0-9+.-]*://({AUTHORITY})")  # RFC 6454, 7

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Middleware:
    """Lets in who asks for the page by its own name, and gives every answer the headers of security.

    Attributes:
        app: What answers who is let in.
        hosts: Names by which the page may be asked for; none for any.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str]) -> None:
        self.app, self.hosts = app, hosts
        self._running: set[asyncio.Future[None]] = set()
        self._ended = False

    def end(self) -> None:
        """Answers all requests that are under way, and all that may come, with 503."""
        self._ended = True
        for answering in self._running:
            answering.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"The page knows only HTTP. Received: {scope['type']}")
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(raw=[*message.get("headers", [])])
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                message = {**message, "headers": headers.raw}
            await send(message)

        app = check_sender(Headers(scope=scope), self.hosts) or self.app
        answering = asyncio.ensure_future(app(scope, receive, answer))
        self._running.add(answering)
        if self._ended:
            answering.cancel()
        try:
            await answering
        except asyncio.CancelledError:
            if not self._ended:
                raise
            if not begun:
                await refuse(503, "the program of this page is ending")(scope, receive, answer)
        finally:
            self._running.discard(answering)


def check_sender(headers: Headers, hosts: Sequence[str]) -> JSONResponse | None:
    """The refusal of a request that is malformed or comes from a page of another site; None for any other.

    Args:
        headers: Of the request.
        hosts: Names by which the page may be asked for, as `to_plain` writes them; none for any.
    """
    host, *more_hosts = [value.lower() for value in headers.getlist("host")] or [""]
    origin, *more_origins = [value.lower() for value in headers.getlist("origin")] or [None]
    name = read_name(host)
    if more_hosts or name is None:
        return refuse(400, "Host must be one name or address, and perhaps a port")
    if hosts and name not in hosts:
        return refuse(400, "Unknown host")
    if origin in (None, f"http://{host}", f"https://{host}") and not more_origins:
        return None
    if more_origins or (origin != "null" and not ORIGIN.fullmatch(str(origin))):
        return refuse(400, "Origin must be one scheme and host, or null")
    return refuse(403, "Unknown origin")


def read_name(host: str) -> str | None:
    """The name or address that a header Host tells, as `to_plain` writes it; None where it is malformed."""
    found = HOST.fullmatch(host)
    if found is None:
        return None
    name = found[1].strip("[]")
    plain = to_plain(name)
    return plain if plain and (":" in plain) == (name != found[1]) else None


def to_plain(name: str) -> str:
    """A name in lower case, an address in its shortest form: two that mean the same are the same."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def refuse(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An answer that gives a reason, as the page reads it."""
    return JSONResponse({"error": reason}, status_code=status, headers=headers)
