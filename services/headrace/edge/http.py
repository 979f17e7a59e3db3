"""The edge's own small pieces of HTTP: JSON and error answers, bodies, request ids, hard limits."""

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.edge import errors
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import RequestId, new_request_id

Headers = list[tuple[bytes, bytes]]

MAX_HEADER_BYTES: Final = 64 * 1024
"""All of a request's headers together; uvicorn itself has no bound."""

HEADER_SECONDS: Final = 20.0
"""A connection whose first request isn't there by then is closed."""

LINGER_SECONDS: Final = 2.0
"""How long a refused client may take to hear why."""

CONNECTION: Final = "headrace.connection"

FOLLOWED: Final = "headrace.followed"
"""In the message that starts a response: a body follows at once, so that both go out in one."""

OUR_FAULT: Final = "The server had an error."

_json: Final = msgspec.json.Encoder()


def start(status: int, headers: Headers, *, followed: bool) -> MutableMapping[str, Any]:
    """ASGI's message that starts a response."""
    return {
        "type": "http.response.start", "status": status, "headers": headers, FOLLOWED: followed,
    }  # fmt: skip


async def respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send a whole answer."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send(start(status, headers, followed=True))
    await send({"type": "http.response.body", "body": body})


async def respond_json(
    send: Send, status: int, content: object, headers: Headers | None = None
) -> None:
    """Send `content` as JSON, with more `headers`."""
    told = [(b"content-type", b"application/json"), *(headers or [])]
    await respond(send, status, _json.encode(content), told)


async def respond_error(send: Send, error: HeadraceError, headers: Headers | None = None) -> None:
    """Send `error` as OpenAI's error object, with more `headers`."""
    told = errors.headers_of(error) + (headers or [])
    await respond(send, error.status, errors.body_of(error), told)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_body(scope: Scope, receive: Receive, limit: int, seconds: float) -> bytes:
    """The request's body. Raises ``request_too_large``, ``request_timeout``, ``cancelled``."""
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            return await _receive_all(receive, limit)
    except TimeoutError:
        raise HeadraceError(
            Code.REQUEST_TIMEOUT, f"The request's body did not arrive within {seconds:.0f} s."
        ) from None


async def _receive_all(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HeadraceError(Code.CANCELLED, "The client left before its request was complete.")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> HeadraceError:
    return HeadraceError(
        Code.REQUEST_TOO_LARGE, f"The request's body is larger than {limit} bytes."
    )


def request_id(scope: Scope) -> RequestId:
    """The id that `FrontDoor` gave this request."""
    id: RequestId = scope["headrace.request_id"]
    return id


class FrontDoor:
    """Gives every request an id and tells it in every answer's ``x-request-id``.

    What is posted to one of the `hot` paths goes to its app at once: the layers of `app` would cost
    it a tenth of all it takes.
    """

    def __init__(self, app: ASGIApp, hot: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._hot = hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = new_request_id()
        scope["headrace.request_id"] = id

        begun = False
        hot = self._hot.get(scope["path"]) if scope["method"] == "POST" else None
        # An answer to HEAD has no body that could take the headers along.
        connection: Connection | None = scope.get(CONNECTION) if hot is not None else None

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], (b"x-request-id", id.encode())]
                if connection is not None and message.get(FOLLOWED):
                    connection.hold()
            await send(message)

        if hot is None:
            await self._app(scope, receive, send_with_id)
            return
        try:
            await hot(scope, receive, send_with_id)
        except Exception:
            if not begun:
                # A defect of ours: the client learns its request's id and nothing else.
                await respond_error(send_with_id, HeadraceError(Code.INTERNAL, OUR_FAULT))
            raise


class _Held:
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


class Connection(HttpToolsProtocol):
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
        self._held = _Held(transport)
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
