"""Which edges are there, and which have died and left requests behind. No I/O.

Every edge tells of itself once a second. One that is not heard any more is gone, and so is one of
which nobody has ever heard and that has requests in the queue: it died before we began to listen.
"""

from collections.abc import Iterable
from typing import Final

BEAT_SECONDS: Final = 1.0

SILENT_SECONDS: Final = 3.2
"""Three beats that did not come."""

PURGE_SECONDS: Final = 6.0
"""For so long what a dead edge has left is taken away again: the last may be under way."""


class Peers:
    """The edges, our own process left out."""

    def __init__(self, me: str, now: float) -> None:
        self._me = me
        self._since = now
        self._heard: dict[str, float] = {}
        self._dead: dict[str, float] = {}

    def hear(self, edge: str, now: float) -> None:
        """It is there."""
        if edge != self._me:
            self._heard[edge] = now
            self._dead.pop(edge, None)

    @property
    def count(self) -> int:
        """How many are there."""
        return len(self._heard)

    def listen_anew(self, now: float) -> None:
        """The connection was gone for a while: whoever is not heard from here on is gone."""
        self._since = now

    def queued(self, edges: Iterable[str], now: float) -> None:
        """Whose requests the queue holds."""
        if now - self._since > SILENT_SECONDS:
            for edge in set(edges) - self._heard.keys() - {self._me}:
                self._dead.setdefault(edge, now)

    def dead(self, now: float) -> list[str]:
        """Those whose requests are to be taken away now."""
        for edge, at in list(self._heard.items()):
            if now - max(at, self._since) > SILENT_SECONDS:
                del self._heard[edge]
                self._dead[edge] = now
        self._dead = {edge: at for edge, at in self._dead.items() if now - at < PURGE_SECONDS}
        return list(self._dead)
