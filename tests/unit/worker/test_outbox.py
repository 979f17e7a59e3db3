"""Frames out: the first at once, close ones together, in order; what is refused is counted."""

import asyncio

import pytest

from headrace.runtime.bus import BusError
from headrace.worker.outbox import Outbox


class Bus:
    """Takes notes of what is sent, and when."""

    waiting = 0

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.refuses = False

    def send(self, subject: str, data: bytes) -> None:
        if self.refuses:
            raise BusError
        self.sent.append((subject, data))


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
async def outbox(bus: Bus) -> Outbox:
    return Outbox(bus, lambda: None)


async def test_a_lone_frame_goes_at_once(bus: Bus, outbox: Outbox) -> None:
    outbox.soon("s", b"1")
    assert bus.sent == [("s", b"1")]


async def test_frames_close_to_each_other_go_together_and_soon(bus: Bus, outbox: Outbox) -> None:
    outbox.soon("s", b"1")
    outbox.soon("t", b"2")
    outbox.soon("s", b"3")
    assert bus.sent == [("s", b"1")]
    assert outbox.size == 2
    async with asyncio.timeout(1):
        while len(bus.sent) < 3:  # noqa: ASYNC110  # a list tells nobody
            await asyncio.sleep(0)
    assert bus.sent == [("s", b"1"), ("t", b"2"), ("s", b"3")]
    assert outbox.size == 0


async def test_an_urgent_frame_overtakes_none(bus: Bus, outbox: Outbox) -> None:
    outbox.soon("s", b"1")
    outbox.soon("s", b"2")
    outbox.now("s", b"3")
    assert [frame for _, frame in bus.sent] == [b"1", b"2", b"3"]


async def test_what_the_bus_refuses_is_counted(bus: Bus) -> None:
    unsent: list[None] = []
    outbox = Outbox(bus, lambda: unsent.append(None))
    bus.refuses = True
    outbox.now("s", b"1")
    assert len(unsent) == 1
