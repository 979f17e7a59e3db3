"""Among edges: tells that this one is there, and clears up after those that died."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from headrace.edge.peers import BEAT_SECONDS, SILENT_SECONDS, Peers
from headrace.protocol import codec, subjects
from headrace.protocol.control import Gone
from headrace.protocol.names import ProcessId
from headrace.runtime.bus import Bus, BusError, Message
from headrace.runtime.jetstream import JetStream, JetStreamError
from headrace.runtime.logging import Logger

GONE: Final = b"gone"
"""What an edge is told that was taken for dead."""


class Company:
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
        self._peers = Peers(edge, self._time())

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
