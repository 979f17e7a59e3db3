"""Requests whose clients have left, until their workers have said that they stopped. No I/O."""

import contextlib
from collections import OrderedDict
from typing import Final

import msgspec

from headrace.edge.dispatch.request import LiveRequest
from headrace.protocol import codec, subjects
from headrace.protocol.control import Cancel, Control, Credit, Resume
from headrace.protocol.frames import Accepted, End, Fail, Frame
from headrace.protocol.names import ProcessId
from headrace.runtime.nats.bus import Bus, BusError
from headrace.runtime.tasks import TaskSet

RESUME_SECONDS: Final = 0.5
"""At most so often one request asks for missing frames."""


class WorkerControl:
    """Control messages out. What is lost of them the sweep, or the next stray frame, repeats."""

    def __init__(self, edge: ProcessId, bus: Bus, background: TaskSet) -> None:
        self._edge = edge
        self._bus = bus
        self._background = background

    def say(self, told: tuple[str, Control]) -> None:
        """Tell a worker, or all where it is "", for it is not known which."""
        self._background.spawn(self._say(*told))

    def resume(self, request: LiveRequest, now: float, unknown: int = 0) -> bool:
        """Ask for what is missing, or for all of an `unknown` attempt; False if just asked."""
        answer = request.answer
        if now - request.resumed < RESUME_SECONDS:
            return False
        request.resumed = now
        if unknown:
            self.say(("", Resume(request.id, self._edge, unknown, 0)))
        else:
            known = Resume(request.id, self._edge, answer.attempt, answer.next_seq)
            self.say((answer.worker, known))
        return True

    def credit(self, request: LiveRequest, limit: int) -> None:
        """Let its worker send up to `limit` bytes in all."""
        request.credit = limit
        answer = request.answer
        self.say((answer.worker, Credit(request.id, answer.attempt, limit)))

    async def _say(self, worker: str, control: Control) -> None:
        with contextlib.suppress(BusError, ValueError):
            to = subjects.control(ProcessId(worker)) if worker else subjects.CONTROL_ALL
            await self._bus.publish(to, codec.encode(control))


AGAIN_SECONDS: Final = 0.5
"""After so long without an answer a cancel is sent again ..."""

TIMES: Final = 20
"""... so often: then the worker is gone, or its link is down and its frames will tell."""

REMEMBERED: Final = 4096


class _Left(msgspec.Struct):
    worker: str
    told_at: float
    times: int = 1
    stopped: bool = False


class PendingCancels:
    """What has to be told to whom. A worker is "" where it is not known: then all are asked."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, _Left] = OrderedDict()
        self._waiting: dict[str, _Left] = {}

    def begin(self, request: str, worker: str, now: float) -> tuple[str, Cancel]:
        """The client of `request` has left."""
        left = self._left[request] = self._waiting[request] = _Left(worker, now)
        if len(self._left) > REMEMBERED:
            old, _ = self._left.popitem(last=False)
            self._waiting.pop(old, None)
        return left.worker, Cancel(request)

    def on_frame(self, request: str, frame: Frame, now: float) -> tuple[str, Cancel] | None:
        """A frame of a request that is not there; what to say to that."""
        left = self._left.get(request)
        if isinstance(frame, End | Fail):
            if left is not None:
                left.stopped = True
                self._waiting.pop(request, None)
            return None
        worker = frame.worker if isinstance(frame, Accepted) else ""
        if left is None or left.stopped:
            return self.begin(request, worker, now)
        left.worker = worker or left.worker
        if now - left.told_at < AGAIN_SECONDS:
            return None
        left.told_at = now
        # Who sends it need not be the one that was told: an old attempt may have woken up.
        return worker, Cancel(request)

    def due(self, now: float) -> list[tuple[str, Cancel]]:
        """What is to be said again now."""
        found = []
        for request, left in list(self._waiting.items()):
            if left.times >= TIMES:
                del self._waiting[request]
            elif now - left.told_at >= AGAIN_SECONDS:
                left.told_at = now
                left.times += 1
                found.append((left.worker, Cancel(request)))
        return found
