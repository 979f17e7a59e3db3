"""The edge's own small pieces of HTTP: JSON and error answers, bodies, request ids."""

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.edge.api import errors
from headrace.edge.api.connection import CONNECTION, HttpConnection
from headrace.protocol.endpoints import Headers
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import RequestId, new_request_id

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
    """The id that `ErrorBoundary` gave this request."""
    id: RequestId = scope["headrace.request_id"]
    return id


class ErrorBoundary:
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
        connection: HttpConnection | None = scope.get(CONNECTION) if hot is not None else None

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
