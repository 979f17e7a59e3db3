"""Requests whose clients have left, until their workers have said that they stopped. No I/O."""

from collections import OrderedDict
from typing import Final

import msgspec

from headrace.protocol.control import Cancel
from headrace.protocol.frames import Accepted, End, Fail, Frame

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


class Cancels:
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
        return left.worker, Cancel(request)

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
