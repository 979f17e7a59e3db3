"""Small batches: the first events at once, fast ones together, and never out of order."""

import asyncio

import pytest

from headrace.worker.stream.batcher import BATCH_BYTES, EAGER_BATCHES, Batcher

WINDOW = 0.05


@pytest.fixture
async def sent() -> list[bytes]:
    return []


@pytest.fixture
async def batcher(sent: list[bytes]) -> Batcher:
    batcher = Batcher(lambda: WINDOW, sent.append)
    for _ in range(EAGER_BATCHES):
        assert not batcher.add(b"eager ")
    assert sent == [b"eager "] * EAGER_BATCHES
    sent.clear()
    return batcher


async def over(batcher: Batcher) -> None:
    """Wait until the window is."""
    await asyncio.sleep(max(0, batcher.due - asyncio.get_running_loop().time()) + 0.005)


async def test_what_follows_fast_waits_for_what_comes_after_the_window(
    batcher: Batcher, sent: list[bytes]
) -> None:
    assert batcher.add(b"a")
    assert batcher.add(b"b")
    assert sent == []
    await over(batcher)
    assert not batcher.add(b"c")
    assert sent == [b"abc"]


async def test_slow_events_travel_at_once(batcher: Batcher, sent: list[bytes]) -> None:
    for number in range(3):
        await over(batcher)
        assert not batcher.add(b"%d" % number)
        assert len(sent) == number + 1


async def test_a_large_batch_does_not_wait(batcher: Batcher, sent: list[bytes]) -> None:
    assert batcher.add(b"a")
    assert not batcher.add(b"b" * BATCH_BYTES)
    assert sent == [b"a" + b"b" * BATCH_BYTES]


async def test_what_waits_can_be_flushed_or_dropped(batcher: Batcher, sent: list[bytes]) -> None:
    batcher.add(b"a")
    batcher.flush()
    batcher.flush()
    assert sent == [b"a"]
    batcher.add(b"b")
    batcher.drop()
    batcher.flush()
    await over(batcher)
    batcher.add(b"c")
    assert sent == [b"a", b"c"]


async def test_the_order_holds(batcher: Batcher, sent: list[bytes]) -> None:
    for number in range(200):
        batcher.add(b"%d " % number)
        if number % 50 == 0:
            await asyncio.sleep(WINDOW * 0.7)
    batcher.flush()
    assert b"".join(sent) == b"".join(b"%d " % number for number in range(200))
    assert len(sent) < 20
