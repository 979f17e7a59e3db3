"""Small batches: the first events at once, fast ones together, and never out of order."""

import asyncio
import time

import pytest

from headrace.worker.batch import BATCH_BYTES, EAGER_BATCHES, Batcher

WINDOW = 0.05


@pytest.fixture
async def sent() -> list[bytes]:
    return []


@pytest.fixture
async def batcher(sent: list[bytes]) -> Batcher:
    batcher = Batcher(WINDOW, sent.append)
    for _ in range(EAGER_BATCHES):
        batcher.add(b"eager ")
    assert sent == [b"eager "] * EAGER_BATCHES
    sent.clear()
    return batcher


async def until(sent: list[bytes], count: int) -> None:
    async with asyncio.timeout(5):
        while len(sent) < count:  # noqa: ASYNC110  # a list tells nobody
            await asyncio.sleep(0.001)


async def test_events_that_follow_fast_travel_together(batcher: Batcher, sent: list[bytes]) -> None:
    began = time.monotonic()
    batcher.add(b"a")
    batcher.add(b"b")
    assert sent == []
    await until(sent, 1)
    assert sent == [b"ab"]
    assert time.monotonic() - began < WINDOW * 10


async def test_slow_events_travel_at_once_and_without_a_timer(
    batcher: Batcher, sent: list[bytes]
) -> None:
    for number in range(3):
        await asyncio.sleep(WINDOW * 1.2)
        batcher.add(b"%d" % number)
        assert len(sent) == number + 1


async def test_a_large_batch_does_not_wait(batcher: Batcher, sent: list[bytes]) -> None:
    batcher.add(b"a")
    batcher.add(b"b" * BATCH_BYTES)
    assert sent == [b"a" + b"b" * BATCH_BYTES]


async def test_what_waits_can_be_flushed_or_dropped(batcher: Batcher, sent: list[bytes]) -> None:
    batcher.add(b"a")
    batcher.flush()
    assert sent == [b"a"]
    batcher.add(b"b")
    batcher.drop()
    await asyncio.sleep(WINDOW * 1.5)
    assert sent == [b"a"]


async def test_the_order_holds(batcher: Batcher, sent: list[bytes]) -> None:
    for number in range(200):
        batcher.add(b"%d " % number)
        if number % 50 == 0:
            await asyncio.sleep(WINDOW * 0.7)
    batcher.flush()
    assert b"".join(sent) == b"".join(b"%d " % number for number in range(200))
    assert len(sent) < 20


async def test_a_late_timer_is_not_overtaken(batcher: Batcher, sent: list[bytes]) -> None:
    batcher.add(b"a")
    batcher._due = 0.0  # as if the timer had been due for long, in a busy event loop
    batcher.add(b"b")
    batcher.flush()
    assert b"".join(sent) == b"ab"
