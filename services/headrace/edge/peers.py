"""Which edges are there, and which have died and left requests behind. No I/O.

Every edge tells of itself once a second. One that is not heard any more is gone, and so is one of
which nobody has ever heard and that has requests in the queue: it died before we began to listen.
Every edge hears itself, too: while it does not, the silence is that of its own link, or its own.
"""

from collections.abc import Iterable
from typing import Final

BEAT_SECONDS: Final = 1.0

OWN_SECONDS: Final = 2.0
"""An edge that has not heard itself for so long has heard nobody, and judges nobody."""

SILENT_SECONDS: Final = 3.2
"""Three beats that did not come."""

PURGE_SECONDS: Final = 6.0
"""For so long what a dead edge has left is taken away again: the last may be under way."""

REMEMBERED: Final = 1024
"""So many of the dead are told what happened, if they come back."""


class Peers:
    """The edges, our own process left out."""

    def __init__(self, me: str, now: float) -> None:
        self._me = me
        self._own = self._since = now
        """When we last heard ourselves, and since when without a break."""
        self._heard: dict[str, float] = {}
        self._dead: dict[str, float] = {}
        self._back: set[str] = set()

    def hear(self, edge: str, now: float) -> None:
        """It is there."""
        if edge == self._me:
            if not self._listening(now):
                self._since = now
            self._own = now
            return
        self._heard[edge] = now
        if self._dead.pop(edge, None) is not None:
            self._back.add(edge)

    @property
    def count(self) -> int:
        """How many are there."""
        return len(self._heard)

    def queued(self, edges: Iterable[str], now: float) -> None:
        """Whose requests the queue holds."""
        if self._listening(now) and now - self._since > SILENT_SECONDS:
            for edge in set(edges) - self._heard.keys() - {self._me}:
                self._bury(edge, now)

    def dead(self, now: float) -> list[str]:
        """Those whose requests are to be taken away now."""
        if not self._listening(now):
            return []
        for edge, at in list(self._heard.items()):
            if now - max(at, self._since) > SILENT_SECONDS:
                del self._heard[edge]
                self._bury(edge, now)
        return [edge for edge, at in self._dead.items() if now - at < PURGE_SECONDS]

    def returned(self) -> list[str]:
        """Those who were taken for dead and are there after all, each once."""
        back, self._back = self._back, set()
        return list(back)

    def _bury(self, edge: str, now: float) -> None:
        self._dead.setdefault(edge, now)
        if len(self._dead) > REMEMBERED:
            del self._dead[next(iter(self._dead))]

    def _listening(self, now: float) -> bool:
        return now - self._own <= OWN_SECONDS
