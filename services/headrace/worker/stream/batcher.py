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
    """Collects the events of one stream within windows of `seconds()`.

    It has no timer: where something waits, whoever reads the stream rests until `due`, and then
    brings what has come meanwhile, or says `flush` where nothing has.
    """

    def __init__(self, seconds: Callable[[], float], emit: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._emit = emit
        self._events: list[bytes] = []
        self._size = 0
        self._eager = EAGER_BATCHES
        self.due = 0.0
        """When the window ends, by the loop's clock."""

    def add(self, events: bytes) -> bool:
        """Send `events`, and all before them; or keep them, and say that there is time to rest."""
        now = self._loop.time()
        if self._eager:
            self._eager -= 1
        elif now < self.due and self._size + len(events) < BATCH_BYTES:
            self.keep(events)
            return True
        if self._events:
            events = b"".join((*self._events, events))
            self._forget()
        self.due = now + self._seconds()
        self._emit(events)
        return False

    def keep(self, events: bytes) -> None:
        """Let `events` wait for what follows them, or for `flush`."""
        self._events.append(events)
        self._size += len(events)

    def flush(self) -> None:
        """Send what waits."""
        if self._events:
            events = b"".join(self._events)
            self._forget()
            self.due = self._loop.time() + self._seconds()
            self._emit(events)

    def drop(self) -> None:
        """Forget what waits: nobody wants it any more."""
        self._forget()

    def _forget(self) -> None:
        self._events.clear()
        self._size = 0
