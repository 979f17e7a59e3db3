"""Frames out: at once while few are sent, a few together while many are.

Each write to the bus costs a system call, here and in every hop that follows. Under load frames
of different requests that come within a millisecond of each other share one, so that the number
of writes has a bound, whatever the number of streams.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from headrace.runtime.bus import BusError

GAP_SECONDS: Final = 0.001
"""What a frame may wait for others: far less than a token takes."""


class Sender(Protocol):
    """What the bus does here."""

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent."""

    def send(self, subject: str, data: bytes) -> None:
        """Send, or raise BusError."""


class Outbox:
    """Publishes frames. What the bus does not take is told to `unsent`, and left to be resumed."""

    def __init__(self, bus: Sender, unsent: Callable[[], None]) -> None:
        self._bus = bus
        self._unsent = unsent
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[str, bytes]] = []
        self._size = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """Bytes that wait to be sent."""
        return self._bus.waiting + self._size

    def soon(self, subject: str, frame: bytes) -> None:
        """Send `frame` within a millisecond."""
        if self._timer is not None:
            self._waiting.append((subject, frame))
            self._size += len(frame)
            return
        now = self._loop.time()
        if now >= self._due:
            self._due = now + GAP_SECONDS
            self._publish(subject, frame)
            return
        self._waiting.append((subject, frame))
        self._size += len(frame)
        self._timer = self._loop.call_at(self._due, self.flush)

    def now(self, subject: str, frame: bytes) -> None:
        """Send what waits, and then `frame`."""
        self.flush()
        self._publish(subject, frame)

    def flush(self) -> None:
        """Send what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            waiting, self._waiting, self._size = self._waiting, [], 0
            self._due = self._loop.time() + GAP_SECONDS
            for subject, frame in waiting:
                self._publish(subject, frame)

    def _publish(self, subject: str, frame: bytes) -> None:
        try:
            self._bus.send(subject, frame)
        except BusError:
            self._unsent()  # the edge sees the gap and asks for it
