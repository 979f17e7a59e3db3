"""An engine's answer on its way out: a stream as whole events, anything else in pieces."""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Usage
from headrace.worker.http_client import EngineError, Flow
from headrace.worker.options import WorkerLimits
from headrace.worker.stream import sse
from headrace.worker.stream.batcher import Batcher
from headrace.worker.stream.llamacpp_timings import TimingsExtractor
from headrace.worker.stream.token_ids import TokenIdExtractor

PIECE_BYTES: Final = 512 * 1024
"""A whole answer travels in frames of this size: far below the bus's limit, cheap to repeat."""

ENGINE_FAILED: Final = "The model's engine failed before the answer was complete."


_TEXTS: Final = ((b'"content":"', b'"content":""'), (b'"text":"', b'"text":""'))
"""Of chats and of completions: what begins a text, and what is none."""


Judge = Callable[[int, bytearray, str], bytearray]


class StreamOutput(Protocol):
    """Where an answer goes."""

    def head(self, status: int, media: str) -> None:
        """Tell the engine's status and media type."""

    def chunk(self, data: bytes, tokens: bytes = b"") -> None:
        """Send a piece of the body, and the ids of its tokens as far as they are known."""

    def began(self) -> None:
        """Note that the first byte is there."""

    @property
    def window(self) -> float:
        """Seconds within which events travel together."""

    @property
    def congested(self) -> bool:
        """Whether more waits to be sent than should."""

    @property
    def spent(self) -> bool:
        """Whether the client has so much to read that no more should be sent."""


class EventReader(Protocol):
    """Makes an engine's events those of the client's stream, and notes the usage."""

    usage: Usage

    def read(self, events: bytes) -> bytes:
        """Whole events as they are for the client."""


class EngineStream:
    """The `Sink` of one request's exchange."""

    def __init__(
        self,
        limits: WorkerLimits,
        output: StreamOutput,
        reader: EventReader,
        *,
        ids: bool,
        timings: bool = False,
    ) -> None:
        self._limits = limits
        self._output = output
        self._splitter = sse.Splitter(limits.event_bytes)
        self._reader = reader
        self._taker = TokenIdExtractor() if ids else None
        self._timer = TimingsExtractor() if timings else None
        self._batcher = Batcher(lambda: output.window, self._send)
        self.streams = False
        self._events = 0
        self._done = False
        self._media = ""
        self._whole = bytearray()
        self.status = 0

    def head(self, status: int, media: str) -> None:
        """The engine has begun to answer."""
        self.status = status
        self._media = media
        self.streams = status < 400 and media.startswith("text/event-stream")
        if self.streams:
            self._output.head(status, media)

    def body(self, data: bytes) -> Flow:
        """Send on what is whole. Raises HeadraceError where the answer is too large."""
        self._output.began()
        if not self.streams:
            self._whole += data
            if len(self._whole) > self._limits.answer_bytes:
                raise HeadraceError(Code.RESPONSE_TOO_LARGE, "The model's answer is too large.")
            return Flow.GO
        events = self._splitter.feed(data)
        if not events:
            return Flow.GO
        self._done = sse.is_done(events)
        if self._taker is None or not self._taker.taken:  # who tells ids is counted by them
            for text, none in _TEXTS:
                self._events += events.count(text) - events.count(none)
        if self._timer is not None:
            events = self._timer.take(events)
        passed = self._reader.read(events)
        if self._done:
            self._batcher.keep(passed)  # `rest` sends it, with the end, in one message
            return Flow.STOP
        waits = bool(passed) and self._batcher.add(passed)
        if waits:
            return Flow.REST
        return Flow.PAUSE if self._output.congested or self._output.spent else Flow.GO

    @property
    def due(self) -> float:
        """When the window ends in which events are collected."""
        return self._batcher.due

    def rested(self) -> None:
        """Nothing has followed within the window."""
        self._batcher.flush()

    def _send(self, events: bytes) -> None:
        tokens = b""
        if self._taker is not None:
            events, tokens = self._taker.take(events)
        if events:
            self._output.chunk(events, tokens)

    def rest(self) -> Iterator[bytes]:
        """What is still to be sent once the exchange is complete.

        Raises EngineError for a stream without its last event.
        """
        if self.streams:
            self._batcher.flush()
            if not self._done:
                raise EngineError("the stream ended too early")
            return
        self._output.head(self.status, self._media)
        for start in range(0, len(self._whole), PIECE_BYTES):
            yield bytes(self._whole[start : start + PIECE_BYTES])

    def pass_through(self, judge: Judge, retry_after: str) -> None:
        """Let `judge` see the whole answer before it is sent; what it gives is sent."""
        self._whole = judge(self.status, self._whole, retry_after)

    def drop(self) -> None:
        """Nobody wants the rest any more."""
        self._batcher.drop()

    @property
    def counted(self) -> Usage:
        """The tokens so far, of an answer that was broken off.

        What the engine has told is exact: its usage, the ids of its tokens, or its count of them.
        Of an engine that tells none before its end, events with text are counted, which are a token
        each.
        """
        if not self.streams:
            return Usage()
        if self._reader.usage != Usage():
            return self._reader.usage
        if self._taker is not None and self._taker.taken:
            return Usage(self._taker.prompt, self._taker.taken)
        if self._timer is not None and self._timer.usage != Usage():
            return self._timer.usage
        return Usage(0, self._events)

    @property
    def usage(self) -> Usage:
        """The tokens as counted by the engine."""
        if self.streams:
            return self._reader.usage
        return sse.usage_of(bytes(self._whole)) if self.status < 400 else Usage()
