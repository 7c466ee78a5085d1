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
    """A connection that is dropped when its client stands still, or when others need its place.

    uvicorn waits without a limit for the end of a request's head, and for a client to read its answer.
    """

    transport: asyncio.Transport
    _last: object  # what was waited for when it was looked at: the cycle of a request, or nothing at all

    @property
    def waits(self) -> bool:
        """Whether it is for the client to ask, or to read an answer."""
        return self.cycle is None or self.cycle.response_complete or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        super().connection_made(transport)
        self.made, self._last = self.loop.time(), self
        self._check = self.loop.call_later(STILL_SECONDS, self._drop_if_still)
        if len(self.connections) > CONNECTIONS:
            self._drop_oldest()

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
        if self.waits and self._last is self.cycle:
            self.transport.abort()
            return
        self._last = self.cycle if self.waits else self
        self._check = self.loop.call_later(STILL_SECONDS, self._drop_if_still)

    def _drop_oldest(self) -> None:
        """Of all that wait for their clients; of none that is being answered."""
        others = (one for one in self.connections if isinstance(one, Connection) and one.waits)
        oldest = min(others, key=lambda one: one.made)
        # Where many come at once it is still closing when the next one comes.
        self.connections.discard(oldest)
        oldest.transport.abort()
