"""Frames out: the first at once, close ones together, in order; what is refused is counted."""

import asyncio

import pytest

from headrace.protocol import codec
from headrace.protocol.frames import Chunk, Frame
from headrace.runtime.nats.bus import BusError
from headrace.worker.queue.frame_sender import MESSAGE_BYTES, FrameSender, address

ONE, OTHER = "a" * 32, "b" * 32
EDGE, FAR = "0" * 16, "1" * 16

Sent = list[list[tuple[str, bytes]]]
"""The messages, each with its frames and their requests."""


class Bus:
    """Takes notes of what is sent."""

    waiting = 0

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.refuses = False

    def send(self, subject: str, data: bytes) -> None:
        if self.refuses:
            raise BusError
        self.messages.append((subject, data))

    @property
    def sent(self) -> Sent:
        """What an edge reads."""
        return [
            [(id, _data(frame)) for id, frame in codec.decode_frames(subject, data)]
            for subject, data in self.messages
        ]


def _data(frame: Frame) -> bytes:
    assert isinstance(frame, Chunk)
    return frame.data


def chunk(data: bytes) -> bytes:
    return codec.encode(Chunk(1, 2, data))


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
async def outbox(bus: Bus) -> FrameSender:
    return FrameSender(bus, lambda: None)


async def turn() -> None:
    """What was to happen soon has happened after it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def arrived(bus: Bus, messages: int) -> None:
    async with asyncio.timeout(1):
        while len(bus.messages) < messages:  # noqa: ASYNC110  # a list tells nobody
            await asyncio.sleep(0)


async def test_a_lone_frame_goes_in_its_turn_under_its_own_name(
    bus: Bus, outbox: FrameSender
) -> None:
    outbox.soon(address(EDGE, ONE), chunk(b"1"))
    await turn()
    assert bus.messages == [(f"hr.res.{EDGE}.{ONE}", chunk(b"1"))]


async def test_frames_close_to_each_other_go_together_and_soon(
    bus: Bus, outbox: FrameSender
) -> None:
    outbox.soon(address(EDGE, ONE), chunk(b"1"))
    await turn()
    outbox.soon(address(EDGE, OTHER), chunk(b"2"))
    outbox.soon(address(EDGE, ONE), chunk(b"3"))
    await turn()
    assert bus.sent == [[(ONE, b"1")]]
    assert outbox.size == len(chunk(b"2") + chunk(b"3"))
    await arrived(bus, 2)
    assert bus.sent[1:] == [[(OTHER, b"2"), (ONE, b"3")]]
    assert bus.messages[1][0] == f"hr.res.{EDGE}.many"
    assert outbox.size == 0


async def test_each_edge_gets_its_own(bus: Bus, outbox: FrameSender) -> None:
    outbox.soon(address(EDGE, ONE), chunk(b"1"))
    outbox.soon(address(FAR, OTHER), chunk(b"2"))
    outbox.soon(address(EDGE, ONE), chunk(b"3"))
    await turn()
    assert sorted(bus.sent) == [[(ONE, b"1"), (ONE, b"3")], [(OTHER, b"2")]]


async def test_an_urgent_frame_overtakes_none(bus: Bus, outbox: FrameSender) -> None:
    outbox.soon(address(EDGE, ONE), chunk(b"1"))
    await turn()
    outbox.soon(address(EDGE, ONE), chunk(b"2"))
    outbox.now(address(EDGE, ONE), chunk(b"3"))
    await turn()
    assert bus.sent == [[(ONE, b"1")], [(ONE, b"2"), (ONE, b"3")]]


async def test_no_message_is_larger_than_the_bus_takes(bus: Bus, outbox: FrameSender) -> None:
    large = [bytes([n]) * (MESSAGE_BYTES // 2 + 1) for n in range(4)]
    whole = b"w" * 5 * MESSAGE_BYTES
    for data in (b"1", *large, whole, b"2", b"3"):
        outbox.soon(address(EDGE, ONE), chunk(data))
    await turn()
    told = [[data for _, data in message] for message in bus.sent]
    assert told == [[b"1", large[0]], *([each] for each in large[1:]), [whole], [b"2", b"3"]]


async def test_what_the_bus_refuses_is_counted(bus: Bus) -> None:
    unsent: list[None] = []
    outbox = FrameSender(bus, lambda: unsent.append(None))
    bus.refuses = True
    outbox.now(address(EDGE, ONE), chunk(b"1"))
    outbox.now(address(EDGE, OTHER), chunk(b"2"))
    outbox.flush()
    assert len(unsent) == 2
