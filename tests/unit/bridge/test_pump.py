"""The pump over streams that the test holds in its hands."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.bridge import pump
from headrace.bridge.pump import HIGH_WATER, LOW_WATER, Pipe, PipeEnd


class Stream:
    """A stream in memory that behaves as an asyncio transport does: it takes all that is written,
    says when that is more than its limit, and delivers as much as the test lets through."""

    def __init__(self, end: PipeEnd) -> None:
        self.end = end
        self.waiting = bytearray()
        self.delivered = bytearray()
        self._paused = False
        self.closed = False
        self.aborted = False
        self._full = False
        self._high, self._low = 0, 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        assert low is not None
        self._high, self._low = high, low

    def write(self, data: bytes) -> None:
        assert not self.closed
        assert not self.aborted
        self.waiting += data
        if len(self.waiting) > self._high and not self._full:
            self._full = True
            self.end.pause_writing()

    def deliver(self, count: int) -> None:
        self.delivered += self.waiting[:count]
        del self.waiting[:count]
        if len(self.waiting) <= self._low and self._full:
            self._full = False
            self.end.resume_writing()

    def paused(self) -> bool:
        return self._paused

    def arrive(self, data: bytes) -> None:
        assert not self._paused
        self.end.data_received(data)

    def pause_reading(self) -> None:
        assert not self._paused
        self._paused = True

    def resume_reading(self) -> None:
        assert self._paused
        self._paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Joined:
    """A pipe between two such streams."""

    def __init__(self) -> None:
        self.finished: list[Pipe] = []
        self.pipe = Pipe(self.finished.append)
        self.hub = Stream(self.pipe.hub)
        self.cluster = Stream(self.pipe.cluster)

    def open(self) -> "Joined":
        self.pipe.hub.connection_made(self.hub)
        self.pipe.cluster.connection_made(self.cluster)
        return self


def test_bytes_go_through_as_they_are() -> None:
    joined = Joined().open()
    joined.hub.arrive(b"to the cluster")
    joined.cluster.arrive(b"to the hub")
    assert joined.cluster.waiting == b"to the cluster"
    assert joined.hub.waiting == b"to the hub"
    assert (joined.pipe.hub.received, joined.pipe.cluster.received) == (14, 10)


def test_what_the_hub_says_before_the_session_is_there_waits_for_it() -> None:
    joined = Joined()
    joined.pipe.hub.connection_made(joined.hub)
    joined.hub.arrive(b"first words")
    assert joined.hub.paused()
    joined.pipe.cluster.connection_made(joined.cluster)
    assert joined.pipe.open
    assert not joined.hub.paused()
    assert joined.cluster.waiting == b"first words"


def test_so_many_first_words_that_the_session_is_full() -> None:
    joined = Joined()
    joined.pipe.hub.connection_made(joined.hub)
    joined.hub.arrive(bytes(HIGH_WATER + 1))
    joined.pipe.cluster.connection_made(joined.cluster)
    assert joined.hub.paused()
    joined.cluster.deliver(HIGH_WATER + 1)
    assert not joined.hub.paused()


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_slow_reader_holds_back_the_writer_and_no_one_else(way: str) -> None:
    joined = Joined().open()
    source, sink = (joined.hub, joined.cluster) if way == "up" else (joined.cluster, joined.hub)
    while not source.paused():
        source.arrive(bytes(10_000))
        assert len(sink.waiting) <= HIGH_WATER + 10_000
    assert source.end.paused
    sink.arrive(b"the other direction flows")
    sink.deliver(len(sink.waiting) - LOW_WATER - 1)
    assert source.paused()
    sink.deliver(1)
    assert not source.paused()
    assert not source.end.paused


@given(
    st.lists(
        st.tuples(st.sampled_from(["arrive", "deliver"]), st.booleans(), st.integers(1, 400_000))
    )
)
def test_nothing_is_lost_and_no_more_than_the_bound_waits(
    steps: list[tuple[str, bool, int]],
) -> None:
    joined = Joined().open()
    sent = {True: bytearray(), False: bytearray()}
    for step, (action, up, count) in enumerate(steps):
        source, sink = (joined.hub, joined.cluster) if up else (joined.cluster, joined.hub)
        if action == "deliver":
            sink.deliver(count)
        elif not source.paused():
            data = bytes([step % 256]) * count
            sent[up] += data
            source.arrive(data)
        assert len(sink.waiting) <= HIGH_WATER + 400_000
    for up, sink in ((True, joined.cluster), (False, joined.hub)):
        sink.deliver(len(sink.waiting))
        assert sink.delivered == sent[up]
    assert not joined.hub.paused()
    assert not joined.cluster.paused()


async def test_the_session_ends_with_the_hub() -> None:
    joined = Joined().open()
    joined.pipe.hub.connection_lost(None)
    assert joined.cluster.aborted
    assert joined.finished == [joined.pipe]
    joined.pipe.cluster.data_received(b"too late")
    joined.pipe.cluster.connection_lost(None)
    assert joined.finished == [joined.pipe]


async def test_the_hub_hears_the_last_word_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "LINGER_SECONDS", 0.01)
    joined = Joined().open()
    joined.cluster.arrive(b"-ERR 'Authorization Violation'")
    joined.pipe.cluster.connection_lost(None)
    assert joined.hub.closed
    assert not joined.hub.aborted
    joined.hub.end.data_received(b"too late")
    # But a hub that does not listen is not waited for.
    await asyncio.sleep(0.05)
    assert joined.hub.aborted


def test_a_cut_ends_both() -> None:
    joined = Joined().open()
    joined.pipe.cut()
    assert joined.hub.aborted
    assert joined.cluster.aborted
    joined.pipe.hub.connection_lost(None)
    assert joined.finished == [joined.pipe]


def test_a_session_that_opens_too_late_is_ended() -> None:
    joined = Joined()
    joined.pipe.hub.connection_made(joined.hub)
    joined.pipe.hub.connection_lost(None)
    joined.pipe.cluster.connection_made(joined.cluster)
    assert joined.cluster.aborted


def test_a_pipe_can_be_refused_before_it_opens() -> None:
    joined = Joined()
    joined.pipe.cut()
    joined.pipe.hub.connection_made(joined.hub)
    assert joined.hub.aborted


@pytest.mark.parametrize("error", [BrokenPipeError(), RuntimeError("the handler is closed")])
def test_a_stream_may_close_before_it_says_so(error: Exception) -> None:
    joined = Joined().open()

    def write(_data: bytes) -> None:
        raise error

    broken: Any = joined.cluster
    broken.write = write
    joined.hub.arrive(b"lost")
    joined.hub.arrive(b"lost as well")
    assert not joined.pipe.open
