"""Frames in, the answer's bytes out: the part of a request's life that decides without I/O.

An `Answer` puts the frames of one request in order, whatever the network and the workers do: it
drops duplicates and frames of old attempts, sees gaps, and knows whether the client has seen
anything yet, which decides whether another attempt may take over.
"""

from enum import Enum, auto
from typing import Final

from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame, Head, Timings, Usage

MAX_LOSSES: Final = 3
"""A request that lost this many workers is given up: it may be what kills them."""


class Phase(Enum):
    """Where a request is, seen from the edge."""

    QUEUED = auto()
    RUNNING = auto()
    ENDED = auto()


class Step(Enum):
    """What the shell must do after a frame."""

    NOTHING = auto()
    WAKE = auto()
    """There is something new for the client."""
    RESUME = auto()
    """Frames are missing: ask the worker for them."""
    REFUSE = auto()
    """A worker has begun an attempt that can't be used: cancel it there."""


class Answer:
    """One request's answer as far as it is known."""

    def __init__(self, max_buffered: int) -> None:
        self.phase = Phase.QUEUED
        self.attempt = 0
        self.next_seq = 0
        self.worker = ""
        self.cluster = ""
        self.status = 0
        """The engine's HTTP status, 0 before it is known."""
        self.content_type = ""
        self.visible = False
        """Whether the client has been sent any of the engine's bytes."""
        self.error: HeadraceError | None = None
        self.usage = Usage()
        self.timings = Timings()
        self.losses = 0
        self._max_buffered = max_buffered
        self._chunks: list[bytes] = []
        self._buffered = 0

    def take(self) -> bytes:
        """All bytes that have come since the last call, for the client."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        return data

    def on_frame(self, frame: Frame) -> Step:
        """Take `frame` in."""
        if self.phase is Phase.ENDED:
            return Step.REFUSE if frame.attempt > self.attempt else Step.NOTHING
        if frame.attempt != self.attempt:
            return self._other_attempt(frame)
        if frame.seq != self.next_seq or self.phase is Phase.QUEUED:
            missing = frame.seq > self.next_seq and self.phase is Phase.RUNNING
            return Step.RESUME if missing else Step.NOTHING
        self.next_seq += 1
        return self._apply(frame)

    def _other_attempt(self, frame: Frame) -> Step:
        if frame.attempt < self.attempt or not isinstance(frame, Accepted):
            return Step.NOTHING
        if self.visible:
            # The client has part of an answer that this attempt would not continue.
            self.fail(Code.WORKER_LOST, "The worker that wrote this answer was lost.")
            return Step.REFUSE
        if self.phase is Phase.RUNNING:
            self.losses += 1
        self._restart()
        self.phase = Phase.RUNNING
        self.attempt = frame.attempt
        self.next_seq = 1
        self.worker = frame.worker
        self.cluster = frame.cluster
        return Step.NOTHING

    def _apply(self, frame: Frame) -> Step:
        if isinstance(frame, Chunk):
            self._chunks.append(frame.data)
            self._buffered += len(frame.data)
            if self._buffered > self._max_buffered:
                self._overflow()
            return Step.WAKE
        if isinstance(frame, Head):
            self.status = frame.status
            self.content_type = frame.content_type
            return Step.WAKE
        if isinstance(frame, End):
            self.usage = frame.usage
            self.timings = frame.timings
            self.phase = Phase.ENDED
            return Step.WAKE
        if isinstance(frame, Fail):
            if frame.retryable:
                self.lose(frame.code, frame.message)
            else:
                self.fail(frame.code, frame.message)
            return Step.WAKE
        return Step.NOTHING

    def lose(self, code: Code, message: str) -> None:
        """The current attempt is lost: wait for another one, or fail where that can't be."""
        self.losses += 1
        if self.visible or self.losses >= MAX_LOSSES:
            self.fail(code, message)
            return
        self._restart()
        self.phase = Phase.QUEUED
        self.worker = ""

    def fail(self, code: Code, message: str, *, retry_after: int | None = None) -> None:
        """End with an error, unless it has ended already."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.ENDED
            self.error = HeadraceError(code, message, retry_after=retry_after)

    def _overflow(self) -> None:
        self._chunks.clear()
        self._buffered = 0
        if self.visible:
            self.fail(Code.SLOW_READER, "The client reads more slowly than the model writes.")
        else:
            self.fail(Code.RESPONSE_TOO_LARGE, "The answer is larger than this service allows.")

    def _restart(self) -> None:
        self._chunks.clear()
        self._buffered = 0
        self.status = 0
        self.content_type = ""
