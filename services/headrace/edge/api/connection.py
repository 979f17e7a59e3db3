"""One HTTP connection of a client. The only file that touches uvicorn's internals.

A new version of uvicorn is tried against the tests of this file first.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.edge.api import errors
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import new_request_id

MAX_HEADER_BYTES: Final = 64 * 1024
"""All of a request's headers together; uvicorn itself has no bound."""

HEADER_SECONDS: Final = 20.0
"""A connection whose first request isn't there by then is closed."""

LINGER_SECONDS: Final = 2.0
"""How long a refused client may take to hear why."""

CONNECTION: Final = "headrace.connection"
"""Where an ASGI scope holds the `HttpConnection` that its request came by."""


class _BufferedTransport:
    """A transport of which one write can be kept back until the next: each costs a system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._kept = b""
        self.holds = False

    def write(self, data: bytes) -> None:
        """Write `data`, after what was kept; or keep it."""
        if self.holds:
            self.holds = False
            self._kept += data
        elif self._kept:
            kept, self._kept = self._kept, b""
            self._transport.write(kept + data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close, and leave nothing behind."""
        if self._kept:
            self._transport.write(self._kept)
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpConnection(HttpToolsProtocol):
    """uvicorn's HTTP connection, with bounds on headers and JSON for what is not even HTTP.

    Who serves a request may ask to be told when its client leaves (`on_left`): ASGI's own way
    would take a task for each request that does nothing but wait.
    """

    on_left: Callable[[], None] | None = None

    _early_bytes = 0
    _early_timer: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        self._held = _BufferedTransport(transport)
        super().connection_made(self._held)  # type: ignore[arg-type]  # all of a transport's
        self._early_timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def hold(self) -> None:
        """Keep the next write until the one after it."""
        self._held.holds = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)
        if self.on_left is not None:
            self.on_left()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]  # ours
        self._early_bytes = 1

    def on_headers_complete(self) -> None:
        """A request's headers are there."""
        self._early_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._refused:
            return
        super().data_received(data)
        if self._early_bytes and not self.transport.is_closing():
            self._early_bytes += len(data)
            if self._early_bytes > MAX_HEADER_BYTES:
                self._refuse(HeadraceError(Code.HEADERS_TOO_LARGE, "The headers are too large."))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours is the clearer sentence
        """What is not HTTP gets an error object too."""
        self._refuse(HeadraceError(Code.INVALID_REQUEST, "This is not a valid HTTP request."))

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(HeadraceError(Code.REQUEST_TIMEOUT, "The request did not arrive in time."))

    def _stop_timer(self) -> None:
        if self._early_timer is not None:
            self._early_timer.cancel()
            self._early_timer = None

    def _answering(self) -> bool:
        cycle: object = self.cycle  # None before the first request, whatever uvicorn's types say
        return cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: HeadraceError) -> None:
        if self._answering():
            # An answer is under way on this connection: a second one in its midst would be worse.
            self.transport.close()
            return
        body = errors.body_of(error)
        reason = b"Bad Request" if error.status == 400 else b"Refused"
        lines = [
            b"HTTP/1.1 %d %s" % (error.status, reason),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
            b"x-request-id: " + new_request_id().encode(),
        ]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        # Closed at once, bytes still on their way would reset the connection and the answer with
        # it: what comes is thrown away for a moment instead.
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
