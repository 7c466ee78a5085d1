"""Connections to the page, as uvicorn keeps them, within limits of number and time."""

import asyncio
import contextlib

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pneumo_keras.app.middleware import SECURITY_HEADERS

CONNECTIONS = 256  # at once: files and processes of the page need descriptors, too
STILL_SECONDS = 30.0  # after two times as long a connection is dropped on which nothing was asked or read
FLUSH_SECONDS = 0.5  # for what was answered, when the program ends


class Connection(H11Protocol):
    """A connection that is dropped when its client stands still.

    uvicorn waits without a limit for the end of a request's head, and for a client to read its answer.
    """

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        super().connection_made(transport)
        self._last: object = self
        self._check = self.loop.call_later(STILL_SECONDS, self._drop_if_still)
        if len(self.connections) > CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(FLUSH_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, unless an answer was begun already."""
        headers = {**SECURITY_HEADERS, "Content-Type": "text/plain", "Connection": "close"}
        with contextlib.suppress(h11.LocalProtocolError):
            for event in (
                h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request"),
                h11.Data(data=msg.encode()),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _drop_if_still(self) -> None:
        waits = self.cycle is None or self.cycle.response_complete or self.flow.write_paused
        if waits and self._last is self.cycle:
            self.transport.abort()
            return
        self._last = self.cycle if waits else self
        self._check = self.loop.call_later(STILL_SECONDS, self._drop_if_still)
