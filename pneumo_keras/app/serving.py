"""The page served until somebody ends it. Needs uvicorn."""

import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from pneumo_keras.app.connections import Connection
from pneumo_keras.app.middleware import Middleware, to_plain
from pneumo_keras.app.server import build_server
from pneumo_keras.app.service import NOTICE, Service, draw_examples
from pneumo_keras.data.decoding import Decoders
from pneumo_keras.data.pictures import Limits
from pneumo_keras.errors import RunError
from pneumo_keras.recipes.explain import build_image_explainer
from pneumo_keras.reporting.explanations import SHOWN_EDGE
from pneumo_keras.runs.folder import RunFolder

log = logging.getLogger("pneumo_keras")

DECODERS = 2  # processes: one that is busy for long keeps nobody waiting


def serve_run(folder: RunFolder, *, host: str, port: int, max_bytes: int) -> None:
    """Serves the page of a run until the process is interrupted.

    Args:
        folder: Of a finished run.
        host: Address to listen on.
        port: To listen on; 0 takes a free one.
        max_bytes: Of an image's file.

    Raises:
        RunError: The run is damaged, or the address cannot be had.
    """
    with _listen(host, port) as listener, open_server(folder, host=host, max_bytes=max_bytes) as server:
        name = f"[{host}]" if ":" in host else host
        log.info("Open http://%s:%d/ in a browser. Ctrl-C ends it", name, listener.getsockname()[1])
        PageServer(server).run(sockets=[listener])


class PageServer(uvicorn.Server):
    """uvicorn's server of a page, which ends within a second or two whatever its clients do."""

    def __init__(self, page: Middleware) -> None:
        super().__init__(
            uvicorn.Config(
                page,
                http=Connection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_level="error",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._page = page

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._page.end()
        await super().shutdown(sockets)


@contextmanager
def open_server(folder: RunFolder, *, host: str, max_bytes: int) -> Iterator[Middleware]:
    """The server of a run's page, ready to evaluate, and the process that decodes for it.

    Args:
        folder: Of a finished run.
        host: Address that it will be asked by.
        max_bytes: Of an image's file.

    Raises:
        RunError: The run is damaged.
    """
    explainer = build_image_explainer(folder)
    with Decoders(
        explainer.preparation, shown=SHOWN_EDGE, workers=DECODERS, limits=Limits(bytes=max_bytes)
    ) as decoders:
        service = Service(explainer, decoders)
        service.warm_up()
        yield build_server(
            service.evaluate,
            draw_examples(),
            run=folder.path.resolve().name,
            notice=NOTICE,
            max_bytes=max_bytes,
            hosts=list_names(host),
        )


def list_names(host: str) -> tuple[str, ...]:
    """Names by which the page may be asked for where it listens on an address; none for any.

    Under a name of its own for this address, another site could read the page's answers.
    """
    name = to_plain(host)
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return (name,)
    if address.is_loopback:
        return ("localhost", "127.0.0.1", "::1", name)
    return () if address.is_unspecified else (name,)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise RunError(
            f"--host and --port must name an address that can be had. Received: {host}, {port} "
            f"({error.strerror or error})"
        ) from error
