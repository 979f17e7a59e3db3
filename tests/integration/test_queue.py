"""The queue on a real nats-server, where a request's life depends on what the server does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.protocol.names import LANES, ProcessId, Slug
from headrace.runtime.logging import setup
from headrace.runtime.nats.bus import Bus, BusOptions, Message
from headrace.runtime.nats.jetstream import ACK, JetStream, PubAck, QueueLimits
from tests.support.edge_kit import Hub
from tests.support.nats_kit import StartNats
from tests.support.worker_kit import Stand

pytestmark = pytest.mark.anyio

M = Slug("m")
EDGE = ProcessId("e" * 16)


@pytest.fixture
async def bus(hub: Hub) -> AsyncIterator[Bus]:
    bus = Bus(setup("test", "error"), name="test", inbox="_INBOX.test")
    await bus.connect(BusOptions(url=hub.url))
    yield bus
    await bus.close()


class Taker:
    """Publishes and takes requests."""

    def __init__(self, bus: Bus) -> None:
        self.queue = JetStream(bus)
        self._got: asyncio.Queue[Message] = asyncio.Queue()
        self._bus = bus

    async def make(self) -> None:
        """Make the queue, as an edge does at its start and whenever the hub is back."""
        await self.queue.ensure_queue(QueueLimits())
        await self.queue.ensure_consumers(M)

    async def listen(self) -> None:
        """Take deliveries in."""
        await self._bus.subscribe("_INBOX.test.pull", self._got.put_nowait)

    async def publish(self, id: str) -> PubAck:
        """Put one in."""
        return await self.queue.publish(M, LANES[0], EDGE, b"x", id=id, ttl_seconds=60)

    async def take(self) -> Message:
        """Have one given out."""
        self.queue.pull(M, LANES[0], reply="_INBOX.test.pull", batch=1, expires=5.0)
        async with asyncio.timeout(20):
            return await self._got.get()


async def test_a_hub_that_was_restarted_gives_no_number_again(hub: Hub, bus: Bus) -> None:
    """What is told of a message of the old queue would hit another one of the new."""
    taker, back = Taker(bus), asyncio.Event()
    bus.on_reconnect(back.set)
    await taker.listen()
    await taker.make()
    old = await taker.publish("old")
    delivery = await taker.take()
    hub.server.kill()
    hub.server.start()
    async with asyncio.timeout(20):
        await back.wait()
    await taker.make()
    new = await taker.publish("new")
    await taker.take()
    assert new.seq > old.seq
    bus.send(delivery.reply, ACK)
    await taker.queue.delete(old.seq)
    assert (await taker.queue.consumer_info(M, LANES[0])).num_ack_pending == 1
    again = await taker.publish("new")
    assert (again.seq, again.duplicate) == (new.seq, True)


async def test_a_site_may_have_more_models_than_a_server_expects(
    nats_process: StartNats, tmp_path: Path
) -> None:
    """With the hub's own configuration: nats-server's default ends at 333 models."""
    async with Stand.around(nats_process, tmp_path) as stand:
        queue = stand.edge.queue
        for number in range(340):
            await queue.ensure_consumers(Slug(f"model-{number}"))
        info = await queue.consumer_info(Slug("model-339"), LANES[-1])
        assert info.num_pending == 0
