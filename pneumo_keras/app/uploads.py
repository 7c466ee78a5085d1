"""Files that are sent to the page, read within limits of time and memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from pneumo_keras.errors import DataError

PATIENCE = 10.0  # seconds for an upload to begin, and to come, and
BYTES_PER_SECOND = 2**20  # as many more as it takes at this rate
UPLOADS = 64  # side by side, and
WHOLE_UPLOADS = 8  # in memory, or parts that are as much together

Answer = TypeVar("Answer")


class Uploads:
    """What is being read, and what was read and waits to be answered.

    Attributes:
        max_bytes: Of a file.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._turns, self._held = asyncio.Semaphore(UPLOADS), 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """All that a request brings; its memory is counted until the end of the block.

        Raises:
            DataError: It is too much.
            HTTPException: It comes too slowly, or too much else is held.
            ClientDisconnect: The client is gone.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            raise _to_refusal() from None
        content = bytearray()
        try:
            await self._read_into(content, request)
            yield bytes(content)
        finally:
            self._turns.release()
            self._held -= len(content)

    async def _read_into(self, content: bytearray, request: Request) -> None:
        self._check_size(_read_length(request))
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(PATIENCE) as limit:
                async for chunk in request.stream():
                    self._check_size(len(content) + len(chunk))
                    if self._held + len(chunk) > WHOLE_UPLOADS * self.max_bytes:
                        raise _to_refusal()
                    content += chunk
                    self._held += len(chunk)
                    limit.reschedule(started + PATIENCE + len(content) / BYTES_PER_SECOND)
        except TimeoutError:
            headers = {"Connection": "close"}
            raise HTTPException(408, "the file came too slowly: send it again", headers) from None

    def _check_size(self, size: float) -> None:
        if size > self.max_bytes:
            raise DataError(f"the file has more than {self.max_bytes // 2**20:,} MB")


async def answer_unless_gone(request: Request, answering: Awaitable[Answer]) -> Answer:
    """An answer, given up when the client of a request that was read is gone.

    Raises:
        ClientDisconnect: It is.
    """
    answer, gone = asyncio.ensure_future(answering), asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _read_length(request: Request) -> float:
    """Bytes that a request says it brings; infinite for what is no such number, 0 where it says nothing."""
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() and len(length) < 20 else float("inf")


def _to_refusal() -> HTTPException:
    headers = {"Connection": "close", "Retry-After": str(round(PATIENCE))}
    return HTTPException(503, "too many files are being read: try again in a moment", headers)
