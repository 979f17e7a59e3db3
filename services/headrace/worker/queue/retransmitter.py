"""What is said once more about attempts: their frames, where an edge has not heard them, and that
they have been cancelled."""

from typing import Final

from headrace.protocol import codec, subjects
from headrace.protocol.errors import Code
from headrace.protocol.frames import Fail
from headrace.protocol.names import ProcessId, RequestId
from headrace.protocol.requests import ATTEMPTS, Request
from headrace.runtime.nats.bus import BusError
from headrace.runtime.nats.jetstream import ACK, NAK
from headrace.worker.queue.attempt import CANCELLED, Attempt, AttemptContext

NAK_LATER: Final = NAK + b' {"delay": 1000000000}'
"""In nanoseconds. So long an edge has to take a message back that it does not need, after all."""


class Retransmitter:
    """Speaks of what the replay buffer remembers."""

    def __init__(self, shared: AttemptContext) -> None:
        self._shared = shared

    def frames(self, request: str, first: int = 0) -> None:
        """Send all frames again that are kept, from `first` on."""
        kept = self._shared.replay.find(request)
        if kept is not None:
            frames = list(kept.frames)[max(0, first - kept.first) :]
            self._shared.metrics.resumed.inc(len(frames))
            for frame in frames:
                self._send(kept.edge, request, frame)

    def ended(self, request: Request) -> bytes | None:
        """Send all frames of an attempt that has ended here, where the edge may have missed them.

        What to answer the queue; None where they are not all there any more, or not wanted.
        """
        kept = self._shared.replay.ended(request.id)
        if kept is None or kept.first:
            return None
        if request.attempt < kept.attempt:
            verb = ACK
        elif kept.complete and request.attempt < kept.attempt + ATTEMPTS:
            # Published anew, for the edge has not heard us. If that comes again, it does not help.
            kept.complete = False
            verb = NAK_LATER
        else:
            return None
        self.frames(request.id)
        return verb

    def cancelled(self, request: str, edge: str, number: int, seq: int = 0) -> bytes:
        """Say that an attempt is cancelled; the frame."""
        frame = codec.encode(Fail(number, seq, Code.CANCELLED, CANCELLED, retryable=False))
        self._send(edge, request, frame)
        return frame

    def never_begun(self, held: Attempt, now: float) -> None:
        """Say that a request which was held is cancelled, as if it had begun and ended at once."""
        request, replay = held.request, self._shared.replay
        replay.begin(request.id, request.edge, held.number)
        replay.add(request.id, self.cancelled(request.id, request.edge, held.number))
        replay.end(request.id, now, complete=False)

    def _send(self, edge: str, request: str, frame: bytes) -> None:
        try:
            subject = subjects.response(ProcessId(edge), RequestId(request))
            self._shared.bus.send(subject, frame)
        except BusError:
            return  # an edge that hears nothing asks again
