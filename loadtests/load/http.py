"""A client's connection, as lean as the engine's: bytes and the moments at which they came.

Measured beside aiohttp's client on the same simulated engine: see `loadtests/README.md`.
"""

import asyncio
from time import perf_counter
from typing import cast

import httptools

from loadtests.load.addresses import Address


class Cut(Exception):
    """The connection ended before the response did."""


class Response:
    """A complete response: `pieces` are its body as it came, each with its moment."""

    __slots__ = ("pieces", "status")

    def __init__(self) -> None:
        self.status = 0
        self.pieces: list[tuple[float, bytes]] = []

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join([piece for _, piece in self.pieces])


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._done: asyncio.Future[Response] | None = None
        self.response = Response()
        """The one that is under way, or the last one."""
        self._now = 0.0
        self._reusable = True

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        return self._transport is not None and self._reusable

    async def exchange(self, request: bytes) -> Response:
        """Send a whole request and wait for the whole response. Raises Cut."""
        if self._transport is None:
            raise Cut
        self.response = Response()
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done

    def close(self) -> None:
        """Hang up at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(Cut())

    def data_received(self, data: bytes) -> None:
        self._now = perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    # httptools' callbacks

    def on_body(self, body: bytes) -> None:
        self.response.pieces.append((self._now, body))

    def on_message_complete(self) -> None:
        self.response.status = self._parser.get_status_code()
        self._reusable = self._parser.should_keep_alive()
        if self._done is not None and not self._done.done():
            self._done.set_result(self.response)


async def connect(address: Address) -> Connection:
    """A fresh connection. Raises OSError."""
    loop = asyncio.get_running_loop()
    if address.uds:
        _, connection = await loop.create_unix_connection(Connection, address.uds)
    else:
        _, connection = await loop.create_connection(Connection, address.host, address.port)
    return connection
