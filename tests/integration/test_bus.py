"""The bus on a real nats-server: what it promises, also when the server goes and comes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from headrace.runtime.config import ConfigError
from headrace.runtime.logging import setup
from headrace.runtime.nats import connection
from headrace.runtime.nats.bus import Bus, BusError, BusOptions, BusTimeout, Message, NoResponders
from tests.support.edge_kit import Hub, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def buses(hub: Hub) -> AsyncIterator[tuple[Bus, Bus]]:
    both = [Bus(setup("test", "error"), name=name, inbox=f"_INBOX.{name}") for name in "ab"]
    for bus in both:
        await bus.connect(BusOptions(url=hub.url))
    yield both[0], both[1]
    for bus in both:
        await bus.close()


async def test_messages_arrive_in_order_large_ones_too(buses: tuple[Bus, Bus]) -> None:
    a, b = buses
    got: asyncio.Queue[bytes] = asyncio.Queue()
    await b.subscribe("x.*", lambda message: got.put_nowait(message.data))
    await b.flush()
    sent = [b"%d" % number for number in range(2000)] + [b"z" * 7_000_000, b"end"]
    for data in sent:
        a.send("x.y", data)
    async with asyncio.timeout(20):
        assert [await got.get() for _ in sent] == sent


async def test_a_request_gets_its_answer_or_hears_why_not(buses: tuple[Bus, Bus]) -> None:
    a, b = buses
    await b.subscribe("echo", lambda message: b.send(message.reply, message.data))
    await b.subscribe("deaf", lambda _: None)
    await b.flush()
    answers = await asyncio.gather(
        *(a.request("echo", b"%d" % n, timeout=20, headers={"h": "1"}) for n in range(100))
    )
    assert answers == [b"%d" % n for n in range(100)]
    with pytest.raises(NoResponders):
        await a.request("nobody", b"", timeout=5)
    with pytest.raises(BusTimeout):
        await a.request("deaf", b"", timeout=0.1)


async def test_a_callback_that_raises_harms_nobody(buses: tuple[Bus, Bus]) -> None:
    a, b = buses
    got: asyncio.Queue[bytes] = asyncio.Queue()

    def callback(message: Message) -> None:
        if message.data == b"bad":
            raise RuntimeError
        got.put_nowait(message.data)

    await b.subscribe("x", callback)
    await b.flush()
    a.send("x", b"bad")
    a.send("x", b"good")
    assert await asyncio.wait_for(got.get(), 20) == b"good"
    assert b.failed == 1


async def test_it_comes_back_with_its_subscriptions_and_what_was_held(
    buses: tuple[Bus, Bus], hub: Hub
) -> None:
    a, b = buses
    got: asyncio.Queue[bytes] = asyncio.Queue()
    back = asyncio.Event()
    await b.subscribe("x", lambda message: got.put_nowait(message.data))
    b.on_reconnect(back.set)
    await asyncio.to_thread(hub.server.kill)

    async def both_know() -> bool:
        return not a.connected and not b.connected

    await eventually(both_know)
    with pytest.raises(BusError):
        await a.flush()
    await asyncio.to_thread(hub.server.start)
    await asyncio.wait_for(back.wait(), 30)

    async def arrives() -> bool:
        a.send("x", b"again")
        return not got.empty()

    await eventually(arrives)


async def test_what_waits_is_bounded(buses: tuple[Bus, Bus], hub: Hub) -> None:
    a, _ = buses
    await asyncio.to_thread(hub.server.kill)

    async def knows() -> bool:
        return not a.connected

    await eventually(knows)
    for _ in range(8):
        a.send("x", b"z" * 1_000_000)
    with pytest.raises(BusError, match="too much"):
        a.send("x", b"z" * 1_000_000)
    await asyncio.to_thread(hub.server.start)


async def test_more_than_the_server_takes_is_refused_here(buses: tuple[Bus, Bus]) -> None:
    with pytest.raises(BusError):
        buses[0].send("x", b"z" * (8 * 1024 * 1024 + 1))
    await buses[0].flush()  # and the connection is still good


@pytest.mark.parametrize("url", ["http://x", "nats://", "nats://x:notaport"])
async def test_a_bad_address_is_told(url: str) -> None:
    bus = Bus(setup("test", "error"), name="a", inbox="_INBOX.a")
    with pytest.raises(ConfigError, match=r"bus\.url"):
        await bus.connect(BusOptions(url=url))


async def test_a_bus_that_is_given_up_while_it_connects_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 600.0)
    clients: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.put_nowait(writer)
        await reader.read()
        left.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        bus = Bus(setup("test", "error"), name="test", inbox="_INBOX.test")
        connecting = asyncio.create_task(bus.connect(BusOptions(url=f"nats://127.0.0.1:{port}")))
        client = await asyncio.wait_for(clients.get(), 20)
        connecting.cancel()
        try:
            await asyncio.wait_for(left.wait(), 20)
        finally:
            client.close()
            await bus.close()


async def test_a_server_that_says_nothing_is_tried_by_one_connection_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hub that hangs accepts connections: each that is given up must bring one other, not two."""
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 0.05)
    open_, most = 0, 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_, most
        open_ += 1
        most = max(most, open_)
        await reader.read()
        open_ -= 1
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        bus = Bus(setup("test", "error"), name="test", inbox="_INBOX.test")
        connecting = asyncio.create_task(bus.connect(BusOptions(url=f"nats://127.0.0.1:{port}")))
        await asyncio.sleep(2)
        connecting.cancel()
        await bus.close()
    assert most == 1
