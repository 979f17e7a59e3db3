"""HTTP to the engine over its Unix socket, as callbacks: no task is woken per token.

A connection has one request at a time: to close it is to cancel the request. One whose answer came
to its end is used again. Chunked bodies, bodies with a length, and bodies that end with the
connection are understood; nothing is decompressed.
"""

import asyncio
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Final, Protocol, cast

import httptools

CONNECT_SECONDS: Final = 10.0
"""A Unix socket answers at once unless the engine's backlog is full."""

MAX_HEADER_BYTES: Final = 64 * 1024
"""Far more than any engine sends."""

MAX_FETCHED_BYTES: Final = 32 * 1024 * 1024
"""Of what is fetched the ids of a long prompt are the most: some megabytes."""

LINGER_SECONDS: Final = 1.0
"""An engine whose answer has ended may need a moment to end its response, too."""

KEEP_SECONDS: Final = 2.0
"""How long an idle connection is used again: servers close them after some seconds (uvicorn after
five), and a request must not meet that."""

# Bytes are forwarded as they come: a compressed stream could not be cut into events.
_COMMON: Final = "Accept-Encoding: identity\r\n\r\n"


class Flow(Enum):
    """What an exchange does after a piece of the body."""

    GO = "go on"
    REST = "read no more until the sink's window is over"
    PAUSE = "read no more until `resume`"
    STOP = "the answer is complete"


class Sink(Protocol):
    """Takes an answer as it comes. What it raises ends the exchange, and is raised there."""

    def head(self, status: int, media: str) -> None:
        """The headers are there."""

    def body(self, data: bytes) -> Flow:
        """A piece of the body is there."""

    @property
    def due(self) -> float:
        """Until when to rest, by the loop's clock, where `body` has said so."""

    def rested(self) -> None:
        """The rest is over, and nothing has come meanwhile."""


class EngineError(OSError):
    """The engine could not be reached, broke off, or does not speak HTTP."""


class Exchange(asyncio.Protocol):
    """A connection to the engine, with one request and its answer."""

    def __init__(self, sink: Sink, client: "EngineClient", request: bytes) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        """When its last answer ended, by the loop's clock."""
        self.begin(sink, request)

    def begin(self, sink: Sink, request: bytes) -> None:
        """Send a request, now or once there is a connection."""
        self._sink = sink
        self._request = request
        """Kept until the engine has said a word: it may have closed an idle connection."""
        self._used = self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._over = False
        self._error: Exception | None = None
        self._paused = False
        self._rest: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._begun = False
        self._delimited = False
        self._whole = False
        self._stays = False
        self._closed = False
        self._pieces: list[bytes] = []
        self._media = "application/json"
        self.retry_after = ""
        """What the answer says of when to come again."""
        self._header_bytes = 0
        if self._transport is not None:
            self._transport.write(request)

    @property
    def sent(self) -> bool:
        """Whether there is a connection, and so the request is on its way."""
        return self._transport is not None

    async def complete(self) -> bool:
        """Wait for the end of the answer: True. False where the sink asked for a pause.

        Raises EngineError, and whatever the sink has raised.
        """
        while True:
            if self._error is not None:
                raise self._error
            if self._over or self._paused:
                return self._over
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def resume(self) -> None:
        """Go on after a pause."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Let the engine finish if it has said all; otherwise break off, and it stops its work."""
        self._closed = True
        if not self._over or self._error is not None:
            self.abort()
        elif self._whole:
            self._done_with()
        elif self._transport is not None:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """Break off, whatever the state."""
        self._over = True
        self._stop_timers()
        if self._transport is not None:
            self._transport.abort()

    def _done_with(self) -> None:
        reads = not self._paused and self._rest is None
        self._stop_timers()
        if self._transport is None:
            return
        if not (reads and self._stays):
            self._transport.abort()
        else:
            self._client.keep(self)

    def _stop_timers(self) -> None:
        for timer in (self._rest, self._linger):
            if timer is not None:
                timer.cancel()
        self._rest = self._linger = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._client.opened(self)
        if self._over:  # given up meanwhile
            self._transport.abort()
        else:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._request = b""
        if self._whole:  # more than an answer
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._end(cause if isinstance(cause, Exception) else error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(EngineError("the engine does not speak HTTP"))
        try:
            self._deliver()
        except Exception as error:  # noqa: BLE001  # whatever the sink raises is raised in `complete`
            self._end(error)
        if not self._begun:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._end(EngineError("the engine sends headers without end"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._client.closed(self)
        if self._used and self._request and not self._over:
            self._used = False
            self._client.connect(self)
            return
        # A body without a length ends with the connection; any other is broken off.
        whole = self._begun and not self._delimited and exc is None
        self._end(None if whole else EngineError("the engine broke off"))

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self._whole:  # more than an answer
            self._stays = False

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key == b"content-type":
            self._media = value.decode("latin-1")
        elif key in (b"content-length", b"transfer-encoding"):
            self._delimited = True
        elif key == b"retry-after":
            self.retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._begun = status >= 200  # those below only announce another answer
        if self._begun and not self._over:
            self._sink.head(status, self._media)

    def on_body(self, data: bytes) -> None:
        # An engine sends each token as a chunk of HTTP's; many may come in one read.
        self._pieces.append(data)

    def _deliver(self) -> None:
        if self._over:
            self._pieces.clear()
        if not self._pieces:
            return
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        flow = self._sink.body(data)
        if flow is Flow.GO:
            return
        if flow is Flow.STOP:
            self._end(None)
        elif flow is Flow.REST:
            self._rest_a_while()
        elif not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
            self._wake()

    def on_message_complete(self) -> None:
        if self._begun:
            self._deliver()
            self._whole = True
            self._stays = self._parser.should_keep_alive()  # knows it only now
            self._end(None)
            if self._closed:
                self._done_with()

    # A read per token is much of what a stream costs: within a window the socket collects.

    def _rest_a_while(self) -> None:
        if self._rest is None and self._transport is not None:
            self._transport.pause_reading()
            loop = asyncio.get_running_loop()
            self._rest = loop.call_at(self._sink.due, self._look)

    def _look(self) -> None:
        self._rest = None
        if not self._over and not self._paused and self._transport is not None:
            self._transport.resume_reading()
            # What has come is read in the next turn of the loop: after that it is known.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._looked)

    def _looked(self) -> None:
        if self._rest is None and not self._over:
            self._sink.rested()

    def failed(self, error: Exception) -> None:
        """There is no connection, after all."""
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if not self._over:
            self._over = True
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EngineClient:
    """Asks the engine."""

    def __init__(self, socket: Path | None = None) -> None:
        self._socket = str(socket)
        self._open: set[Exchange] = set()
        self._idle: list[Exchange] = []
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Exchanges under way."""
        return len(self._open) - len(self._idle)

    def opened(self, exchange: Exchange) -> None:
        """A connection is there."""
        self._open.add(exchange)

    def closed(self, exchange: Exchange) -> None:
        """A connection is gone."""
        self._open.discard(exchange)
        if exchange in self._idle:
            self._idle.remove(exchange)

    def keep(self, exchange: Exchange) -> None:
        """A connection may be used again."""
        exchange.idle_since = asyncio.get_running_loop().time()
        self._idle.append(exchange)

    def connect(self, exchange: Exchange) -> None:
        """Connect once more, where an idle connection turns out to be closed."""
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def close(self) -> None:
        """Break off every exchange that is left."""
        for exchange in list(self._open):
            exchange.abort()

    async def post(self, path: str, body: bytes, sink: Sink) -> Exchange:
        """Send JSON; the answer goes to `sink`. Close the exchange in the end. Raises OSError."""
        return await self._send(self.request("POST", path, body), sink)

    async def healthy(self, path: str, seconds: float) -> bool:
        """Whether a health check is answered with 200 in time."""
        return await self._status(self.request("GET", path), seconds) == 200

    async def look(self, path: str, seconds: float) -> int:
        """The status of a GET, or 0 where there was none."""
        return await self._status(self.request("GET", path), seconds)

    async def ask(self, path: str, body: bytes, seconds: float) -> int:
        """Send a request and throw its answer away; the status, or 0 where there was none."""
        return await self._status(self.request("POST", path, body), seconds)

    async def fetch(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send a request: the status and the body of its answer. Raises OSError."""
        seen = _Whole()
        exchange = await self.post(path, body, seen)
        try:
            await exchange.complete()
        finally:
            exchange.close()
        return seen.status, bytes(seen.data)

    async def _status(self, request: bytes, seconds: float) -> int:
        seen = _Status()
        try:
            async with asyncio.timeout(seconds):
                exchange = await self._send(request, seen)
                try:
                    await exchange.complete()
                finally:
                    exchange.close()
        except (OSError, TimeoutError):
            return 0
        return seen.status

    async def _send(self, request: bytes, sink: Sink) -> Exchange:
        exchange = self._kept()
        if exchange is not None:
            exchange.begin(sink, request)
            return exchange
        exchange = self._exchange(sink, request)
        await self._dial(exchange)
        return exchange

    def _kept(self) -> Exchange | None:
        oldest = asyncio.get_running_loop().time() - KEEP_SECONDS
        if self._idle and self._idle[-1].idle_since > oldest:
            return self._idle.pop()
        for exchange in list(self._idle):  # the last one is too old, and so are all
            exchange.abort()
        return None

    async def _connect(self, exchange: Exchange) -> None:
        try:
            await self._dial(exchange)
        except OSError as error:
            exchange.failed(error)

    # What is another's way to another server.

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """A request as it goes over the wire."""
        return written(method, path, "engine", body)

    def _exchange(self, sink: Sink, request: bytes) -> Exchange:
        return Exchange(sink, self, request)

    async def _dial(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_unix_connection(lambda: exchange, self._socket)
        except TimeoutError as error:
            raise EngineError("the engine accepts no connection") from error


def written(
    method: str, path: str, host: str, body: bytes | None, more: Iterable[tuple[str, str]] = ()
) -> bytes:
    """A request of HTTP/1.1, with a body of JSON if there is one."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in more]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, _COMMON]).encode() + (body or b"")


class _Status:
    """Keeps the status, and throws the body away."""

    def __init__(self) -> None:
        self.status = 0

    def head(self, status: int, media: str) -> None:  # noqa: ARG002
        self.status = status

    due = 0.0

    def body(self, data: bytes) -> Flow:  # noqa: ARG002
        return Flow.GO

    def rested(self) -> None:
        """Never: it does not rest."""


class _Whole(_Status):
    """Keeps the body, too."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()

    def body(self, data: bytes) -> Flow:
        self.data += data
        if len(self.data) > MAX_FETCHED_BYTES:
            raise EngineError("the engine's answer is too large")
        return Flow.GO
