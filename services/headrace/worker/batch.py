"""Small batches: the first events at once, later ones together where they follow fast."""

import asyncio
from collections.abc import Callable
from typing import Final

BATCH_BYTES: Final = 64 * 1024
"""A batch of this size is sent whatever the time: more would only delay it."""

EAGER_BATCHES: Final = 3
"""Sent at once whatever the time: engines begin with an event that holds only the role, and the
first token must not wait behind it."""


class Batcher:
    """Collects the events of one stream. Uses a timer only where events come faster than it."""

    def __init__(self, seconds: float, emit: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._emit = emit
        self._events: list[bytes] = []
        self._size = 0
        self._eager = EAGER_BATCHES
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, events: bytes) -> None:
        """Send `events` now or soon."""
        if self._timer is None and (self._eager or self._loop.time() >= self._due):
            self._eager = max(0, self._eager - 1)
            self._due = self._loop.time() + self._seconds
            self._emit(events)
            return
        self._events.append(events)
        self._size += len(events)
        if self._size >= BATCH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._due, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._events:
            events = b"".join(self._events)
            self._events.clear()
            self._size = 0
            self._due = self._loop.time() + self._seconds
            self._emit(events)

    def drop(self) -> None:
        """Forget what waits: nobody wants it any more."""
        self._events.clear()
        self.flush()
