"""What workers are told about the requests of this edge."""

import contextlib
from typing import Final

from headrace.edge.background import Background
from headrace.edge.live import LiveRequest
from headrace.protocol import codec, subjects
from headrace.protocol.control import Control, Credit, Resume
from headrace.protocol.names import ProcessId
from headrace.runtime.bus import Bus, BusError

RESUME_SECONDS: Final = 0.5
"""At most so often one request asks for missing frames."""


class Orders:
    """Control messages out. What is lost of them the sweep, or the next stray frame, repeats."""

    def __init__(self, edge: ProcessId, bus: Bus, background: Background) -> None:
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
