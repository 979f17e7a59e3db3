"""Frames in, the answer's bytes out: the part of a request's life that decides without I/O.

A `ResponseAssembler` puts the frames of one request in order, whatever network and workers do: it
drops duplicates and frames of old attempts, sees gaps, and lets another attempt take over only
where it goes on exactly where the answer stands.
"""

from enum import Enum, auto
from typing import Final

from headrace.edge.dispatch.transcript import Transcript
from headrace.protocol.control import WINDOW_BYTES
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame, Head, Timings, Usage

MAX_LOSSES: Final = 3
"""A request that lost this many workers is given up: it may be what kills them."""

MAX_PAST: Final = 64
"""So many attempts that are over are remembered by worker: it is more than a request has."""

_DONE: Final = b"[DONE]"

SLOW_READER: Final = "The client reads more slowly than the model writes."


_NO_FAULT: Final = frozenset({Code.WORKER_DRAINED, Code.CANCELLED})
"""A worker that had to go, or was told to stop: nothing that the request could have caused."""


class RequestPhase(Enum):
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
    STALE = auto()
    """A worker goes on with an attempt that another one has taken the place of: cancel it."""
    UNKNOWN = auto()
    """A worker has begun, and we have missed that: ask all workers for its first frames."""
    LOST = auto()
    """The attempt is over without an answer: another one is needed."""
    REVIVED = auto()
    """The attempt that was given up goes on: another one is not needed."""


class ResponseAssembler:
    """One request's answer as far as it is known.

    With a `transcript` it is a stream: another attempt must go on exactly where it stands.
    """

    def __init__(self, max_buffered: int, transcript: Transcript | None = None) -> None:
        self.phase = RequestPhase.QUEUED
        self.attempt = 0
        self.next_seq = 0
        self.worker = ""
        self.cluster = ""
        self.status = 0
        """The engine's HTTP status, 0 before it is known."""
        self.content_type = ""
        self.error: HeadraceError | None = None
        self.usage = Usage()
        self.timings = Timings()
        self.losses = 0
        self.silent = False
        """Whether the attempt was given up because its worker is silent, and may yet go on."""
        self.transcript = transcript
        self._max_buffered = max_buffered
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._taken = b""
        """What was taken last."""
        self._base = 0
        """Where the attempt went on."""
        self._past: dict[int, str] = {}
        """The workers of attempts that are over, by number."""

    @property
    def after(self) -> int:
        """Where another attempt has to go on: bytes of the stream so far."""
        return self.transcript.after if self.transcript is not None else 0

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client."""
        return self._buffered

    @property
    def credit(self) -> int:
        """What the attempt may send in all: what the client has taken of it, and a window more."""
        return self.after - self._base - self._buffered + WINDOW_BYTES

    def take(self) -> bytes:
        """All bytes that have come since the last call, for the client."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        self._taken = data
        return data

    @property
    def complete(self) -> bool:
        """Whether all of a stream was taken, up to the event that ends it.

        Every other event of an engine is JSON: none ends like this, whatever a model writes.
        """
        return not self._chunks and self._taken[-32:].rstrip().endswith(_DONE)

    def on_frame(self, frame: Frame) -> Step:
        """Take `frame` in."""
        if frame.attempt != self.attempt:
            return self._other_attempt(frame)
        if self.phase is RequestPhase.ENDED:
            return Step.NOTHING
        if frame.seq != self.next_seq or (self.phase is RequestPhase.QUEUED and not self.silent):
            missing = frame.seq > self.next_seq and (
                self.phase is RequestPhase.RUNNING or self.silent
            )
            return Step.RESUME if missing else Step.NOTHING
        self.next_seq += 1
        if self.silent and not isinstance(frame, Fail):
            self.silent = False
            self.phase = RequestPhase.RUNNING
            self.losses -= 1
            self._apply(frame)
            return Step.REVIVED
        return self._apply(frame)

    def worker_of(self, attempt: int) -> str:
        """Who made this attempt, as far as we have heard; empty if not."""
        return self.worker if attempt == self.attempt else self._past.get(attempt, "")

    def _other_attempt(self, frame: Frame) -> Step:
        if self.phase is RequestPhase.ENDED:
            return Step.REFUSE if frame.attempt > self.attempt else Step.STALE
        if frame.attempt < self.attempt:
            return Step.NOTHING if isinstance(frame, End | Fail) else Step.STALE
        if not isinstance(frame, Accepted):
            return self._unknown(frame)
        if frame.after != self.after or (self.phase is RequestPhase.RUNNING and self.after):
            # It would not go on where we are, or is one too many.
            self._remember(frame.attempt, frame.worker)
            return Step.REFUSE
        if self.phase is RequestPhase.RUNNING:
            self.losses += 1
        if not self.after:
            self._restart()
        self._remember(self.attempt, self.worker)
        self.phase = RequestPhase.RUNNING
        self.silent = False
        self.attempt = frame.attempt
        self.next_seq = 1
        self.worker = frame.worker
        self.cluster = frame.cluster
        self._base = self.after
        return Step.NOTHING

    def _unknown(self, frame: Frame) -> Step:
        """A frame of an attempt of which we have not heard that it was accepted."""
        if self.phase is RequestPhase.RUNNING or not isinstance(frame, Fail):
            return Step.UNKNOWN
        if frame.code is not Code.UNSUPPORTED_VERSION:
            return Step.UNKNOWN
        self.fail(frame.code, frame.message)  # it will not be: its message is thrown away
        return Step.WAKE

    def _remember(self, attempt: int, worker: str) -> None:
        self._past[attempt] = worker
        if len(self._past) > MAX_PAST:
            del self._past[next(iter(self._past))]

    def _apply(self, frame: Frame) -> Step:
        if isinstance(frame, Chunk):
            self._chunks.append(frame.data)
            self._buffered += len(frame.data)
            if self.transcript is not None and self.status < 400:
                self.transcript.add(frame.data, frame.tokens)
            if self._buffered > self._max_buffered:
                self._overflow()
            return Step.WAKE
        if isinstance(frame, Head):
            if not self.after:
                self.status = frame.status
                self.content_type = frame.content_type
            return Step.WAKE
        if isinstance(frame, End):
            self.usage = frame.usage
            self.timings = frame.timings
            self.phase = RequestPhase.ENDED
            return Step.WAKE
        if isinstance(frame, Fail):
            if not frame.retryable and frame.code is not Code.CANCELLED:
                self.usage, self.timings = frame.usage, frame.timings
                self.fail(frame.code, frame.message, retry_after=frame.retry_after or None)
                return Step.WAKE
            self.lose(frame.code)
            return Step.LOST if self.phase is RequestPhase.QUEUED else Step.WAKE
        return Step.NOTHING

    def lose(self, code: Code, *, silent: bool = False) -> None:
        """The current attempt is lost: wait for another one, or fail where there were too many.

        With `silent` nothing is known but that its worker is not heard: it may go on.
        """
        if self.phase is RequestPhase.ENDED:
            return
        if self.silent:  # counted already
            self.silent = silent
            return
        self.losses += code not in _NO_FAULT
        if self.losses >= MAX_LOSSES:
            self.fail(
                Code.GIVEN_UP,
                f"{MAX_LOSSES} workers were lost with this request, which may be what ends them.",
            )
            return
        self.phase = RequestPhase.QUEUED
        self.silent = silent

    def fail(self, code: Code, message: str, *, retry_after: int | None = None) -> None:
        """End with an error, unless it has ended already."""
        if self.phase is not RequestPhase.ENDED:
            self.phase = RequestPhase.ENDED
            self.error = HeadraceError(code, message, retry_after=retry_after)

    def cut_off(self) -> None:
        """The client does not read: end with that error, even where all of the answer is there."""
        self.phase = RequestPhase.ENDED
        if self.error is None:
            self.error = HeadraceError(Code.SLOW_READER, SLOW_READER)

    def _overflow(self) -> None:
        self._clear()
        if self.transcript is not None:
            self.fail(Code.SLOW_READER, SLOW_READER)
        else:
            self.fail(Code.RESPONSE_TOO_LARGE, "The answer is larger than this service allows.")

    def _restart(self) -> None:
        self._clear()
        self.status = 0
        self.content_type = ""

    def _clear(self) -> None:
        self._chunks.clear()
        self._buffered = 0
