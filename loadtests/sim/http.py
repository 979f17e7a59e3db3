"""The simulated engine's HTTP: one object per connection, callbacks only, no framework."""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Final, cast

import httptools

from loadtests.sim import bodies
from loadtests.sim.answers import Streamed, Whole
from loadtests.sim.engine import Engine

MAX_BODY: Final = 64 * 1024 * 1024
MAX_PIPELINED: Final = 64

_INFERENCES: Final = {b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings"}
_TOKENIZERS: Final = {b"/tokenize": bodies.tokenize, b"/detokenize": bodies.detokenize}
_PAGES: Final = {b"/health", b"/v1/models", b"/metrics"}


class Http(asyncio.Protocol):
    """A client's connection. Requests on it are answered one after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[tuple[bytes, bytes, bytes, bool]] = deque()
        self._answer: Streamed | Whole | None = None
        self._busy = False
        self._url = b""
        self._body: list[bytes] = []
        self._size = 0
        self._keep_alive = True
        self.paused = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._engine.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._engine.connections.discard(self)
        self._queue.clear()
        if self._answer is not None:
            self._engine.batch.abort(self._answer)
            self._answer = None

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._answer is not None:
            self._answer.flush()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._body = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self.close()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if len(self._queue) >= MAX_PIPELINED:
            self.close()
            return
        path = self._url.partition(b"?")[0]
        request = self._parser.get_method(), path, b"".join(self._body)
        self._queue.append((*request, self._parser.should_keep_alive()))
        self._next()

    # answers.Connection

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client has gone."""
        if self._transport is not None:
            self._transport.write(data)

    def reply(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Send a complete response."""
        reason = HTTPStatus(status).phrase
        self.write(
            f"HTTP/1.1 {status} {reason}\r\nserver: sim\r\ncontent-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        self.finished()

    def finished(self) -> None:
        """The response is complete: go on with the next request, or hang up."""
        self._answer = None
        self._busy = False
        if not self._keep_alive:
            self.close()
        elif self._queue:
            self._next()

    def close(self) -> None:
        """Hang up when what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        if self._busy or not self._queue:
            return
        self._busy = True
        method, path, body, self._keep_alive = self._queue.popleft()
        try:
            self._dispatch(method, path, body)
        except bodies.RequestError as error:
            self.reply(error.status, error.body)

    def _dispatch(self, method: bytes, path: bytes, data: bytes) -> None:
        engine = self._engine
        wanted = (
            b"POST"
            if path in _INFERENCES or path in _TOKENIZERS
            else b"GET"
            if path in _PAGES
            else None
        )
        if wanted != method:
            found = wanted is not None
            text = b"Method Not Allowed" if found else b"Not Found"
            self.reply(405 if found else 404, b'{"detail":"%b"}' % text)
        elif not engine.loaded and path != b"/metrics":
            self.reply(503, bodies.error_body(503, "Loading model"))
        elif path in _INFERENCES:
            self._infer(path, data)
        elif path in _TOKENIZERS:
            self.reply(200, _TOKENIZERS[path](bodies.read(data, engine.options.model)))
        elif path == b"/v1/models":
            self.reply(200, bodies.models(engine.options.model))
        elif path == b"/metrics":
            self.reply(200, engine.metrics(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self.reply(200, b"")

    def _infer(self, path: bytes, data: bytes) -> None:
        options = self._engine.options
        if options.hang:
            return
        if options.status:
            message = "The engine was told to fail."
            self.reply(options.status, bodies.error_body(options.status, message))
            return
        body = bodies.read(data, options.model)
        if path == b"/v1/embeddings":
            self.reply(200, bodies.embeddings(body, options.model, options.dimensions))
            return
        chat = path == b"/v1/chat/completions"
        task = bodies.task(body, chat=chat, default_tokens=options.tokens)
        made = Streamed if task.stream else Whole
        answer = self._answer = made(self, task, options.model)
        self._engine.batch.submit(answer)
