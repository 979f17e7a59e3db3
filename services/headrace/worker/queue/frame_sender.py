"""Frames out: at once while few are sent, a few together while many are.

Each message costs something here and in every hop that follows, and so does each write. What leaves
in one turn of the loop is one message to each edge; and under load frames of different requests
that come within a millisecond of each other leave together, so that the number of messages has a
bound, whatever the number of streams.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from headrace.protocol import codec, subjects
from headrace.protocol.names import ProcessId, RequestId
from headrace.runtime.nats.bus import BusError

GAP_SECONDS: Final = 0.001
"""What a frame may wait for others: far less than a token takes."""

MESSAGE_BYTES: Final = 128 * 1024
"""Frames beyond this go in a message of their own: large ones gain nothing by company."""


class Sender(Protocol):
    """What the bus does here."""

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent."""

    def send(self, subject: str, data: bytes) -> None:
        """Send, or raise BusError."""


class FrameRoute(NamedTuple):
    """Where the frames of a request go: alone, or with others."""

    request: str
    alone: str
    together: str


def address(edge: str, request: str) -> FrameRoute:
    """The address of a request of `edge`. Raises ValueError for a name that is not admitted."""
    process = ProcessId(edge)
    alone = subjects.response(process, RequestId(request))
    return FrameRoute(request, alone, subjects.responses_together(process))


class FrameSender:
    """Publishes frames. What the bus does not take is told to `unsent`, and left to be resumed."""

    def __init__(self, bus: Sender, unsent: Callable[[], None]) -> None:
        self._bus = bus
        self._unsent = unsent
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, list[tuple[FrameRoute, bytes]]] = {}
        self._size = 0
        self._due = 0.0
        self._flush: asyncio.Handle | None = None
        self._at_once = False

    @property
    def size(self) -> int:
        """Bytes that wait to be sent."""
        return self._bus.waiting + self._size

    def soon(self, to: FrameRoute, frame: bytes) -> None:
        """Send `frame` within a millisecond."""
        self._add(to, frame)
        if self._flush is None:
            if self._loop.time() >= self._due:
                self._flush = self._loop.call_soon(self.flush)
                self._at_once = True
            else:
                self._flush = self._loop.call_at(self._due, self.flush)

    def now(self, to: FrameRoute, frame: bytes) -> None:
        """Send what waits, and `frame`, in this turn of the loop."""
        self._add(to, frame)
        if not self._at_once:
            if self._flush is not None:
                self._flush.cancel()
            self._flush = self._loop.call_soon(self.flush)
            self._at_once = True

    def flush(self) -> None:
        """Send what waits."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
            self._at_once = False
        if self._waiting:
            waiting, self._waiting, self._size = self._waiting, {}, 0
            self._due = self._loop.time() + GAP_SECONDS
            for together, frames in waiting.items():
                self._send_all(together, frames)

    def _add(self, to: FrameRoute, frame: bytes) -> None:
        frames = self._waiting.get(to.together)
        if frames is None:
            self._waiting[to.together] = [(to, frame)]
        else:
            frames.append((to, frame))
        self._size += len(frame)

    def _send_all(self, together: str, frames: list[tuple[FrameRoute, bytes]]) -> None:
        first, size = 0, 0
        for n, (_, frame) in enumerate(frames):
            if size and size + len(frame) > MESSAGE_BYTES:
                self._send(together, frames[first:n])
                first, size = n, 0
            size += len(frame)
        self._send(together, frames[first:])

    def _send(self, together: str, frames: list[tuple[FrameRoute, bytes]]) -> None:
        try:
            if len(frames) == 1:
                ((to, frame),) = frames
                self._bus.send(to.alone, frame)
            else:
                many = codec.encode_many([(to.request, frame) for to, frame in frames])
                self._bus.send(together, many)
        except BusError:
            for _ in frames:
                self._unsent()  # the edge sees the gap and asks for it
