"""What edges tell this worker: cancel a request, send its frames again, or send more."""

from typing import Final

from headrace.protocol import codec, subjects
from headrace.protocol.control import Cancel, Credit, Gone, Resume
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Fail
from headrace.protocol.names import ProcessId, RequestId
from headrace.runtime.nats.bus import BusError, Message
from headrace.worker.queue.attempt import AttemptContext
from headrace.worker.queue.intake import Intake

LOST: Final = "The worker no longer has the rest of this answer."


class Control:
    """Answers control messages."""

    def __init__(self, shared: AttemptContext, intake: Intake) -> None:
        self._shared = shared
        self._intake = intake

    async def start(self) -> None:
        """Begin to listen."""
        own = subjects.control(self._shared.worker)
        await self._shared.bus.subscribe(own, lambda message: self._on_message(message, alone=True))
        await self._shared.bus.subscribe(
            subjects.CONTROL_ALL, lambda message: self._on_message(message, alone=False)
        )

    def _on_message(self, message: Message, *, alone: bool) -> None:
        try:
            told = codec.decode_control(message.data)
        except HeadraceError as error:
            self._shared.metrics.refused.inc()
            self._shared.log.warning("message_refused", code=error.code)
            return
        match told:
            case Cancel():
                self._intake.cancel(told, alone=alone)
            case Credit():
                self._intake.credit(told)
            case Gone(edge):
                self._intake.cancel_all_of(edge)
            case Resume():
                self._resume(told, alone=alone)

    def _resume(self, told: Resume, *, alone: bool) -> None:
        kept = self._shared.replay.find(told.request)
        if not alone and (kept is None or kept.attempt != told.attempt):
            return  # another worker's
        try:
            subject = subjects.response(ProcessId(told.edge), RequestId(told.request))
        except ValueError:
            self._shared.metrics.refused.inc()
            return
        frames = self._shared.replay.since(told.request, told.attempt, told.next_seq)
        if frames is None:
            # Never silence: the edge must know that no frame will come.
            fail = Fail(told.attempt, told.next_seq, Code.WORKER_LOST, LOST, retryable=True)
            frames = [codec.encode(fail)]
            self._intake.give_up(told.request, told.attempt, Code.WORKER_LOST, LOST)
        if not frames:
            return  # nothing is missing, the engine is slow: heartbeats tell that we live
        self._shared.log.info(
            "resumed", request=told.request, attempt=told.attempt, seq=told.next_seq,
            frames=len(frames),
        )  # fmt: skip
        self._shared.metrics.resumed.inc(len(frames))
        try:
            for frame in frames:
                self._shared.bus.send(subject, frame)
        except BusError:
            return  # what is missing then is asked for again
