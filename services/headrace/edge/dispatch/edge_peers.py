"""Among edges: tells that this one is there, and clears up after those that died."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Final

from headrace.protocol import codec, subjects
from headrace.protocol.control import Gone
from headrace.protocol.names import ProcessId
from headrace.runtime.logging import Logger
from headrace.runtime.nats.bus import Bus, BusError, Message
from headrace.runtime.nats.jetstream import JetStream, JetStreamError

BEAT_SECONDS: Final = 1.0

OWN_SECONDS: Final = 2.0
"""An edge that has not heard itself for so long has heard nobody, and judges nobody."""

SILENT_SECONDS: Final = 3.2
"""Three beats that did not come."""

PURGE_SECONDS: Final = 6.0
"""For so long what a dead edge has left is taken away again: the last may be under way."""

REMEMBERED: Final = 1024
"""So many of the dead are told what happened, if they come back."""


class PeerTable:
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


GONE: Final = b"gone"
"""What an edge is told that was taken for dead."""


class EdgePeers:
    """This edge as one of several. `on_gone` is called when the others had taken it for dead."""

    def __init__(
        self,
        edge: ProcessId,
        bus: Bus,
        jetstream: JetStream,
        *,
        on_gone: Callable[[], None],
        log: Logger,
    ) -> None:
        self._edge = edge
        self._bus = bus
        self._jetstream = jetstream
        self._on_gone = on_gone
        self._log = log
        self._time = asyncio.get_running_loop().time
        self._peers = PeerTable(edge, self._time())

    @property
    def others(self) -> int:
        """How many other edge processes there are."""
        return self._peers.count

    async def run(self) -> None:
        """Keep company until cancelled."""
        await self._bus.subscribe(subjects.EDGES, self._on_edge)
        async with asyncio.TaskGroup() as tasks:
            # Apart: one that waits for the queue must not seem dead itself.
            tasks.create_task(self._beat(), name="beat")
            tasks.create_task(self._clear_up(), name="clear-up")

    async def _beat(self) -> None:
        me = subjects.edge(self._edge)
        while True:
            with contextlib.suppress(BusError):
                await self._bus.publish(me, b"")
            await asyncio.sleep(BEAT_SECONDS)

    async def _clear_up(self) -> None:
        began, looks = self._time(), 0
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with contextlib.suppress(BusError, JetStreamError):
                # Twice, for what was under way when the first look was taken.
                if looks < 2 and self._time() - began > SILENT_SECONDS + looks * BEAT_SECONDS:
                    self._peers.queued(await self._jetstream.edges(), self._time())
                    looks += 1
                for dead in self._peers.dead(self._time()):
                    await self._bury(ProcessId(dead))
                # After what was taken from them is out: then it can be published anew.
                for back in self._peers.returned():
                    await self._bus.publish(subjects.edge(ProcessId(back)), GONE)

    async def _bury(self, dead: ProcessId) -> None:
        self._log.warning("edge_gone", reason=dead)
        await self._jetstream.purge(dead)
        await self._bus.publish(subjects.CONTROL_ALL, codec.encode(Gone(dead)))

    def _on_edge(self, message: Message) -> None:
        edge = subjects.last_name(message.subject)
        if not message.data:
            self._peers.hear(edge, self._time())
        elif edge == self._edge and message.data == GONE:
            self._on_gone()
